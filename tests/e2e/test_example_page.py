"""The example page, driven in a real Chromium as somebody would who has never seen it."""

import re
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from chat_api.llm.demo_provider import EXPLANATION
from examples.serve import PageServer
from tests.e2e.chromium import SOURCES
from tests.e2e.node import TIMEOUT_S, installed
from tests.e2e.pages import PHONE, SCHEMES, Screenshots, Site, listening
from tests.live.client import Person
from tests.support.api import PASSWORD, new_email

# the first test installs Chromium, which takes half a minute
pytestmark = pytest.mark.timeout(TIMEOUT_S)
LONG = " ".join(f"word{number}" for number in range(90))  # more than three seconds


def log_in(page: Page, running: Site, person: Person, route: str = "") -> None:
    page.goto(f"{running.example.origin}/{route}")
    page.get_by_label("Email address").fill(person.email)
    page.get_by_label("Password").fill(person.password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Model of the next reply").wait_for()


def send(page: Page, text: str) -> None:
    page.get_by_label("Your message", exact=True).fill(text)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your message", exact=True)).to_have_value(
        ""
    )  # it is stored, the reply has begun


def replies(page: Page) -> Locator:
    return page.get_by_role("article", name="Assistant")


def echo(text: str) -> str:
    """What the demo model replies."""
    return f"You said: {text}\n\n{EXPLANATION}"


def wait_for_end(page: Page) -> None:
    page.get_by_role("button", name="Send", exact=True).wait_for()


def path(page: Page) -> list[str]:
    """The texts of the messages that are seen."""
    return [text.strip() for text in page.locator("#messages .body").all_inner_texts()]


def test_somebody_new_registers_connects_a_model_and_talks(
    page: Page, running: Site, screenshots: Screenshots
) -> None:
    page.goto(running.example.origin)
    screenshots.take(page, "login")
    page.get_by_label("Email address").fill(new_email())
    page.get_by_label("Password").fill("short")
    page.get_by_role("button", name="Make an account").click()
    page.locator(".field-error").wait_for()
    assert page.evaluate("document.activeElement.id") == "password"
    screenshots.take(page, "login-wrong-field")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Make an account").click()
    page.get_by_label("Address", exact=True).fill(running.model.base_url)
    screenshots.take(page, "connect")
    page.get_by_role("button", name="Connect", exact=True).click()
    page.get_by_text("What is on your mind?").wait_for()
    screenshots.take(page, "empty")
    send(page, LONG)
    page.locator("[aria-busy=true]", has_text="word3").wait_for()
    assert "word89" not in replies(page).inner_text()
    screenshots.take(page, "streaming")
    wait_for_end(page)
    assert path(page) == [LONG, echo(LONG)]
    expect(page.get_by_role("status")).to_have_text(f"The reply has ended. {echo(LONG)}")
    assert page.locator("#title").inner_text().startswith("word0 word1")
    expect(page.locator("#conversations [aria-current]")).to_contain_text("word0 word1")


def test_a_reply_can_be_stopped(page: Page, running: Site) -> None:
    log_in(page, running, running.person())
    send(page, LONG)
    page.locator("[aria-busy=true]", has_text="word2").wait_for()
    page.get_by_role("button", name="Stop").click()
    wait_for_end(page)
    reply = path(page)[1]
    assert echo(LONG).startswith(reply)
    assert 3 <= len(reply.split()) < 90
    assert page.get_by_text("You stopped this reply.").is_visible()


def test_a_reload_in_the_middle_of_a_reply_loses_nothing(page: Page, running: Site) -> None:
    log_in(page, running, running.person())
    send(page, LONG)
    page.locator("[aria-busy=true]", has_text="word5").wait_for()
    page.reload()
    page.locator("[aria-busy=true]", has_text="word10").wait_for()
    wait_for_end(page)
    assert path(page) == [LONG, echo(LONG)]


def test_edits_and_other_replies_are_branches(page: Page, running: Site, screenshots: Screenshots) -> None:
    log_in(page, running, running.person())
    send(page, "Where should I eat in Lisbon?")
    wait_for_end(page)
    send(page, "And where is it quiet?")
    wait_for_end(page)
    first = path(page)
    page.get_by_role("button", name="Edit").first.click()
    screenshots.take(page, "edit")
    page.get_by_label("Edit your message").fill("Where should I eat in **Porto**?\n\n- fish\n- `code`")
    page.get_by_role("button", name="Send as a new version").click()
    replies(page).nth(0).locator("li", has_text="code").wait_for()
    wait_for_end(page)
    assert replies(page).locator("strong").inner_text() == "Porto"
    assert len(path(page)) == 2
    page.get_by_role("button", name="Another reply").click()
    page.get_by_text("2 of 2").nth(1).wait_for()
    wait_for_end(page)
    screenshots.take(page, "branches")
    page.reload()
    page.get_by_text("2 of 2").nth(1).wait_for()
    page.get_by_role("button", name="Previous version").first.focus()
    page.keyboard.press("Enter")
    page.get_by_text("1 of 2", exact=True).wait_for()
    assert path(page) == first
    assert page.evaluate("document.activeElement.ariaLabel") == "Next version"


def test_conversations_are_listed_page_by_page(page: Page, running: Site, screenshots: Screenshots) -> None:
    person = running.person()
    for number in range(45):
        title = f"Conversation {number}"
        assert person.post("/chat/conversations", {"title": title}).status == 201
    log_in(page, running, person)
    links = page.locator("#conversations a")
    expect(links).to_have_count(20)
    screenshots.take(page, "list")
    for count in (40, 45):
        page.get_by_role("button", name="Show more").click()
        links.nth(count - 1).wait_for()
    assert links.all_inner_texts() == [f"Conversation {number}" for number in reversed(range(45))]
    assert page.get_by_role("button", name="Show more").is_hidden()
    assert page.evaluate("document.activeElement.textContent") == "Conversation 4"
    links.nth(44).click()
    page.get_by_role("heading", name="Conversation 0").wait_for()
    page.go_back()
    page.get_by_role("heading", name="New conversation").wait_for()


def test_errors_are_plain_words(page: Page, running: Site, screenshots: Screenshots) -> None:
    person = running.person()
    page.goto(running.example.origin)
    page.get_by_label("Email address").fill(person.email)
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Log in").click()
    alert = page.get_by_role("alert")
    alert.locator("p").wait_for()
    assert "password" in alert.inner_text()
    log_in(page, running, person)
    page.get_by_role("button", name="Connect a model").click()
    page.get_by_label("Address", exact=True).fill("http://127.0.0.1:1/v1")
    page.get_by_role("button", name="Connect", exact=True).click()
    alert.get_by_text("The model does not work yet.").wait_for()
    send(page, "Is anybody there?")
    page.get_by_role("button", name="Get a reply").wait_for()
    page.locator("#messages").get_by_text("connection").wait_for()
    screenshots.take(page, "error")
    page.get_by_label("Model of the next reply").select_option("echo (Demo)")
    page.get_by_role("button", name="Get a reply").click()
    replies(page).get_by_text("Is anybody there?").wait_for()
    wait_for_end(page)
    assert alert.count() == 0


def test_a_service_that_is_away_is_not_one_that_refuses_the_page(page: Page, running: Site) -> None:
    for service, words in (
        (running.server.base_url, "does not allow this page: its operator must add"),
        ("http://127.0.0.1:1", "can’t be reached. Is it running"),
    ):
        with listening(PageServer(0, service)) as stranger:
            page.goto(stranger.origin)
            page.get_by_label("Email address").fill("ada@example.org")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("alert").get_by_text(words).wait_for()


def test_text_is_never_html(page: Page, running: Site) -> None:
    evil = '<img src=x onerror="document.title=1"> [a](javascript:alert(1)) <script>alert(1)</script>'
    log_in(page, running, running.person())
    send(page, evil)
    wait_for_end(page)
    assert path(page) == [evil, echo(evil)]
    assert page.locator("#messages :is(img, a, script)").count() == 0
    refused = (
        """() => { try { document.body.innerHTML = "<b>x</b>"; } catch (error) { return error.name; } }"""
    )
    assert page.evaluate(refused) == "TypeError"


def test_tokens_stand_in_no_address_and_a_login_outlives_its_access_token(page: Page, running: Site) -> None:
    person = running.person()
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    log_in(page, running, person)
    page.evaluate("import('./session.js').then(session => session.renew())")
    send(page, "Hello")
    wait_for_end(page)
    token = page.evaluate("import('./session.js').then(session => session.accessToken())")
    kept = page.evaluate("Object.values(localStorage)")
    assert token not in kept
    assert len(addresses) > 20
    for secret in [token, *kept]:
        assert not [address for address in addresses if secret.split(".")[-1] in address]
    # all logins end: the page finds out at its next request
    changes = {"current_password": PASSWORD, "password": "a longer horse and a newer staple"}
    assert person.patch("/auth/me", changes).status == 200
    page.wait_for_timeout(1100)  # a worker learns of it within a second
    page.get_by_label("Your message", exact=True).fill("Hello again")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("Your login has ended").wait_for()
    assert page.get_by_label("Email address").is_visible()
    # whoever logs in next in this tab sees nothing of it
    stranger = running.person()
    page.get_by_label("Email address").fill(stranger.email)
    page.get_by_label("Password").fill(stranger.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#account")).to_have_text(stranger.email)
    expect(page.get_by_label("Your message", exact=True)).to_have_value("")
    assert path(page) == []


def test_two_tabs_share_a_login(page: Page, running: Site) -> None:
    log_in(page, running, running.person())
    other = page.context.new_page()
    other.goto(running.example.origin)
    for _ in range(3):
        for tab in (page, other):
            tab.evaluate("setTimeout(() => location.reload(), 50)")
        for tab in (page, other):
            tab.wait_for_timeout(300)
            tab.get_by_label("Model of the next reply").wait_for()
    page.get_by_role("button", name="Log out").click()
    other.get_by_label("Email address").wait_for()


def test_it_works_by_keyboard_alone(page: Page, running: Site) -> None:
    person = running.person()
    person.post("/chat/conversations", {"title": "Lisbon"})
    page.goto(running.example.origin)
    page.keyboard.type(person.email)
    page.keyboard.press("Tab")
    page.keyboard.type(person.password)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Lisbon").wait_for()
    reach(page, "Lisbon")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Lisbon").wait_for()
    reach(page, "message")
    page.keyboard.type("Hello")
    page.keyboard.press("Enter")
    replies(page).get_by_text("Hello").wait_for()
    wait_for_end(page)
    page.keyboard.type("Typed at once")  # the field has kept the focus
    page.keyboard.press("Shift+Enter")
    assert page.get_by_label("Your message", exact=True).input_value() == "Typed at once\n"


def reach(page: Page, name: str) -> None:
    """Press Tab until the element with this text or id has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if name in page.evaluate("[document.activeElement.textContent.trim(), document.activeElement.id]"):
            return
    raise AssertionError(f"{name} can't be reached by keyboard")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_is_accessible_and_fits_a_phone(
    browser: Browser, running: Site, scheme: Literal["light", "dark"]
) -> None:
    axe = (installed(SOURCES) / "node_modules/axe-core/axe.min.js").read_text()
    context = browser.new_context(viewport=PHONE, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()

    def check(what: str) -> None:
        page.evaluate(axe)
        found = page.evaluate("axe.run().then(result => result.violations.map(v => [v.id, v.nodes[0].html]))")
        assert found == [], what
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], what

    page.goto(running.example.origin)
    check("login")
    person = running.person()
    page.get_by_label("Email address").fill(person.email)
    page.get_by_label("Password").fill(person.password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="New").click()
    send(page, "# A heading\n\n```\n" + "x" * 300 + "\n```\n" + "y" * 300)
    page.locator("[aria-busy=true] pre").wait_for()
    check("writing")
    wait_for_end(page)
    page.get_by_role("button", name="Another reply").click()
    page.get_by_text(re.compile("2 of 2")).wait_for()
    wait_for_end(page)
    check("branches")
    page.get_by_role("button", name="Edit").click()
    check("edit")
    page.get_by_role("link", name="Back").click()
    page.get_by_role("link", name="A heading").wait_for()
    check("list")
    page.get_by_role("button", name="Connect a model").click()
    page.get_by_label("Address", exact=True).fill("nonsense")
    page.get_by_role("button", name="Connect", exact=True).click()
    page.locator(".field-error").wait_for()
    check("connect")
    context.close()
