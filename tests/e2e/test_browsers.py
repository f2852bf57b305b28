"""What the service promises to pages of other origins, in a real Chromium: CORS, streams, uploads, tickets."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from chat_api.llm.demo_provider import EXPLANATION
from examples.serve import PageServer
from tests.e2e.breaking_proxy import BreakingProxy
from tests.e2e.node import TIMEOUT_S
from tests.e2e.pages import Site, listening
from tests.live.client import Person, wait_until

pytestmark = pytest.mark.timeout(TIMEOUT_S)
LONG = " ".join(f"word{number}" for number in range(260))  # seven seconds: Chromium waits three to reconnect
REPLY = f"You said: {LONG}\n\n{EXPLANATION}"
CALL = """async ({url, method, headers, body}) => {
  const response = await fetch(url, {method, headers, body: body === null ? undefined : JSON.stringify(body)});
  return {status: response.status, type: response.type, headers: Object.fromEntries(response.headers),
          body: await response.text()};
}"""
NAME_OF_ERROR = """async ({url, options}) => {
  try { const response = await fetch(url, options); return `${response.type} ${response.status}`; }
  catch (error) { return error.name; }
}"""


@pytest.fixture
def person(running: Site) -> Person:
    return running.person()


@pytest.fixture
def allowed(page: Page, running: Site) -> Page:
    """A page of the origin that is allowed."""
    page.goto(running.example.origin)
    return page


@pytest.fixture
def refused(page: Page, running: Site) -> Iterator[Page]:
    """A page of an origin that is not."""
    with listening(PageServer(0, running.server.base_url)) as stranger:
        page.goto(stranger.origin)
        yield page


def call(page: Page, person: Person, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """What a page gets for a request with the person's token."""
    sent = {"Authorization": f"Bearer {person.token}", **headers}
    if body is not None:
        sent["Content-Type"] = "application/json"
    url = person.server.base_url + path
    return page.evaluate(CALL, {"url": url, "method": method, "headers": sent, "body": body})


def begin(person: Person) -> str:
    """Request a reply; the id of the completion."""
    provider_id = person.get("/chat/llm-providers").body[0]["id"]
    body = {"conversation_id": person.conversation(), "provider_id": provider_id, "content": LONG}
    answer = person.post("/chat/completions", {**body, "background": True})
    assert answer.status == 202
    return str(answer.body["id"])


def ticket(person: Person, completion_id: str) -> str:
    """The address of the events, below that of a service."""
    answer = person.post(f"/chat/completions/{completion_id}/events/ticket", None)
    assert answer.status == 200
    return str(answer.body["url"])


def test_a_page_sends_json_and_reads_answers_errors_and_headers(allowed: Page, person: Person) -> None:
    made = call(
        allowed, person, "POST", "/chat/conversations", {"title": "Lisbon"}, **{"Idempotency-Key": "a"}
    )
    assert made["status"] == 201
    path = made["headers"]["location"]
    read = call(allowed, person, "GET", path)
    etag = {"If-Match": read["headers"]["etag"]}
    assert call(allowed, person, "PATCH", path, {"title": "Porto"}, **etag)["status"] == 200
    stale = call(allowed, person, "PATCH", path, {"title": "Faro"}, **etag)
    assert (stale["status"], stale["headers"]["content-type"]) == (412, "application/problem+json")
    assert stale["headers"]["x-request-id"] in stale["body"]
    again = call(
        allowed, person, "POST", "/chat/conversations", {"title": "Lisbon"}, **{"Idempotency-Key": "a"}
    )
    assert again["headers"]["idempotency-replayed"] == "true"
    person.conversation()
    assert 'rel="next"' in call(allowed, person, "GET", "/chat/conversations?limit=1")["headers"]["link"]
    assert call(allowed, person, "DELETE", path)["status"] == 204
    assert call(allowed, person, "GET", path)["status"] == 404
    large = call(allowed, person, "POST", "/auth/tokens", {"name": "x" * 100_000})
    assert (large["status"], "payload_too_large" in large["body"]) == (413, True)
    person.token = "no token"
    nobody = call(allowed, person, "GET", "/chat/conversations")
    assert (nobody["status"], nobody["headers"]["www-authenticate"][:6]) == (401, "Bearer")


def test_a_preflight_is_sent_once_for_ten_minutes(allowed: Page, person: Person) -> None:
    sent: list[str] = []
    network = allowed.context.new_cdp_session(allowed)
    network.on("Network.requestWillBeSent", lambda event: sent.append(event["request"]["method"]))
    network.send("Network.enable")
    for title in ("One", "Two", "Three"):
        assert call(allowed, person, "POST", "/chat/conversations", {"title": title})["status"] == 201
    wait_until(lambda: allowed.wait_for_timeout(20) or len(sent) >= 4)
    assert sent.count("OPTIONS") == 1


def test_a_streamed_reply_arrives_word_by_word(allowed: Page, person: Person) -> None:
    provider_id = person.get("/chat/llm-providers").body[0]["id"]
    body = {
        "conversation_id": person.conversation(),
        "provider_id": provider_id,
        "content": LONG,
        "stream": True,
    }
    script = """async ({url, token, body}) => {
      const headers = {Authorization: `Bearer ${token}`, "Content-Type": "application/json"};
      const response = await fetch(url, {method: "POST", headers, body: JSON.stringify(body)});
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "", halfAt = null;
      for (let chunk; !(chunk = await reader.read()).done;) {
        text += chunk.value;
        if (halfAt === null && text.includes("word200")) halfAt = performance.now();
      }
      return {text, restTook: performance.now() - halfAt, type: response.headers.get("Content-Type")};
    }"""
    url = person.server.base_url + "/chat/completions"
    got = allowed.evaluate(script, {"url": url, "token": person.token, "body": body})
    assert got["type"].startswith("text/event-stream")
    assert "event: completion.completed" in got["text"]
    # it is not collected on the way: the model takes 2.5 s for the words after the 200th
    assert got["restTook"] > 1000


@pytest.mark.parametrize(("path", "status"), [("/chat/import", 200), ("/chat/attachments", 201)])
def test_a_page_uploads_a_file(allowed: Page, person: Person, path: str, status: int) -> None:
    person.conversation()
    export = person.get("/chat/export").body.decode()
    script = """async ({url, token, text}) => {
      const form = new FormData();
      form.append("file", new File([text], "notes.txt", {type: "text/plain"}));
      const response = await fetch(url, {method: "POST", headers: {Authorization: `Bearer ${token}`}, body: form});
      return {status: response.status, location: response.headers.get("Location"), body: await response.json()};
    }"""
    url = person.server.base_url + path
    got = allowed.evaluate(script, {"url": url, "token": person.token, "text": export})
    assert got["status"] == status
    if got["location"]:
        assert call(allowed, person, "GET", got["location"] + "/content")["body"] == export


def test_the_browser_keeps_a_refused_page_from_reading_and_changing(
    refused: Page, running: Site, person: Person
) -> None:
    base_url = person.server.base_url
    headers = {"Authorization": f"Bearer {person.token}"}

    def result(path: str, **options: Any) -> Any:
        return refused.evaluate(NAME_OF_ERROR, {"url": base_url + path, "options": options})

    assert result("/chat/conversations", headers=headers) == "TypeError"
    assert result("/healthz") == "TypeError"
    body = {"method": "POST", "headers": {**headers, "Content-Type": "application/json"}, "body": "{}"}
    assert result("/chat/conversations", **body) == "TypeError"
    assert person.get("/chat/conversations").body == []
    # without a preflight a page can send, but no token, no JSON, and it can't read the answer
    assert result("/auth/register", method="POST", mode="no-cors", body="{}") == "opaque 0"
    assert "/auth/register" in running.server.log
    assert result("/healthz", mode="no-cors") == "opaque 0"  # so a page can see that it is refused
    events = base_url + ticket(person, begin(person))
    script = """url => new Promise(resolve => {
      const source = new EventSource(url);
      let events = 0;
      source.addEventListener("completion.started", () => events++);
      source.onerror = () => { source.close(); resolve(events); };
    })"""
    assert refused.evaluate(script, events) == 0


def test_an_event_source_reconnects_by_itself_and_loses_nothing(
    page: Page, running: Site, person: Person
) -> None:
    addresses = all_addresses(page)
    with BreakingProxy(running.server.port) as proxy:
        open_page(page, running, proxy.base_url)
        url = proxy.base_url + ticket(person, begin(person))
        page.evaluate(
            """url => {
              window.got = {text: "", opened: 0, last: null, ids: []};
              const source = window.source = new EventSource(url);
              source.onopen = () => got.opened++;
              for (const name of ["delta", "completed"]) source.addEventListener(`completion.${name}`, event => {
                got.ids.push(Number(event.lastEventId));
                const data = JSON.parse(event.data);
                if (data.delta) got.text += data.delta;
                else got.last = data.type;
              });
            }""",
            url,
        )
        for words in ("word10", "word140"):
            until(page, f"got.text.includes('{words}')")
            proxy.cut()
        until(page, "got.last !== null")
        got = page.evaluate("got")
        assert (got["text"], got["last"]) == (REPLY, "completion.completed")
        assert got["opened"] == 3
        assert got["ids"] == sorted(set(got["ids"]))
        # the service ends the stream, the browser comes once more, gets 204 and stays away
        until(page, "source.readyState === EventSource.CLOSED")
    assert len([address for address in addresses if "ticket=" in address]) >= 3
    assert not [address for address in addresses if person.token in address]


@pytest.mark.parametrize("module", ["fetch-events.js", "ticket-events.js"])
def test_the_modules_of_the_example_survive_lost_connections(
    page: Page, running: Site, person: Person, module: str
) -> None:
    addresses = all_addresses(page)
    with BreakingProxy(running.server.port) as proxy:
        open_page(page, running, proxy.base_url)
        page.evaluate(
            """async ({email, password, module, id}) => {
              await (await import("./session.js")).logIn(email, password);
              window.got = {text: "", ended: false};
              window.stop = new AbortController();
              const {followReply} = await import(`./${module}`);
              followReply(id, {
                signal: stop.signal,
                onEvent: data => { got.text += data.delta ?? ""; },
              }).then(() => got.ended = true, error => got.ended = String(error));
            }""",
            {**person.credentials, "module": module, "id": begin(person)},
        )
        until(page, "got.text.includes('word10')")
        proxy.cut()
        until(page, "got.text.includes('word140')")
        used = [address for address in addresses if "ticket=" in address]
        if used:  # it is refused now, as after its minute
            proxy.refused = used[0].partition("ticket=")[2]
        proxy.cut()
        until(page, "got.ended")
        assert page.evaluate("got") == {"text": REPLY, "ended": True}
    if used:
        assert [address for address in addresses if "ticket=" in address and "&after=" in address]


def open_page(page: Page, running: Site, service: str) -> None:
    """Open the example page for a service at this address."""
    running.example.service = service
    try:
        page.goto(running.example.origin)
    finally:
        running.example.service = running.server.base_url


def all_addresses(page: Page) -> list[str]:
    """Those of all requests from now on."""
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    return addresses


def until(page: Page, condition: str) -> None:
    """Wait until this is true in the page, whose policy allows no condition as text."""
    wait_until(lambda: page.evaluate(condition) or page.wait_for_timeout(20), what=condition)
