"""`useChat` of the AI SDK, versions 5, 6 and 7, in a real Chromium, on a page of another origin."""

import threading
import uuid
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.node import TIMEOUT_S, installed, node_command, run
from tests.e2e.pages import listening
from tests.live.client import Person, serving, wait_until
from tests.support.provider import (
    BREAK,
    Answer,
    ScriptedProvider,
    error_answer,
    openai_chunk,
    openai_stream,
)
from tests.support.server import GunicornServer

pytestmark = pytest.mark.timeout(TIMEOUT_S)
VERSIONS = ("5", "6", "7")
HTML = '<!doctype html><title>Chat</title><div id="root"></div><script type="module" src="page.js"></script>'
DOT = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CITY = [("call_1", "get_weather", '{"city":"Lisbon"}'), ("call_2", "get_weather", '{"city":"Atlantis"}')]


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files, and logs nothing."""

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def pages() -> Iterator[str]:
    """The origin of the pages: /5/, /6/ and /7/ have one version each."""
    folder = installed(Path(__file__).parent / "use_chat")
    run([*node_command(), "bundle.mjs"], folder)
    for version in VERSIONS:
        (folder / "dist" / version / "index.html").write_text(HTML)
    handler = partial(QuietHandler, directory=str(folder / "dist"))
    with listening(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture(scope="module")
def gunicorn(pages: str) -> Iterator[GunicornServer]:
    with serving({"CORS_ORIGINS": pages}) as running:
        yield running


class Tab:
    """A page with one chat of a user, whose provider answers as it is told."""

    def __init__(
        self, page: Page, origin: str, version: str, server: GunicornServer, provider: ScriptedProvider
    ) -> None:
        self.page, self.provider = page, provider
        self.person = Person(server)
        made = self.person.post(
            "/chat/llm-providers", {"name": "Scripted", "api_endpoint": provider.url}
        ).body
        config = {"provider_id": made["id"], "api_key": "sk-0123456789", "user_id": self.person.user["id"]}
        assert self.person.post("/chat/user-llm-configs", config).status == 201
        self.model = f"model-{uuid.uuid4().hex[:12]}"
        self.id = uuid.uuid4().hex[:16]
        self.given = {"api": f"{server.base_url}/api/chat", "token": self.person.token, "id": self.id,
                      "model": f"{made['slug']}/{self.model}"}  # fmt: skip
        self.address = f"{origin}/{version}/"

    def open(self, **more: str) -> "Tab":
        self.page.goto("about:blank")  # else only the fragment differs, and nothing is loaded
        self.page.goto(f"{self.address}#{urlencode(self.given | more)}")
        self.wait("ready", "streaming", "submitted")
        return self

    def script(self, *answers: Answer) -> None:
        self.provider.script(*answers, model=self.model)

    @property
    def sent(self) -> list[Any]:
        return [received.json["messages"] for received in self.provider.of_model(self.model)]

    @property
    def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.page.evaluate("JSON.parse(JSON.stringify(window.chat.messages))")
        return found

    @property
    def texts(self) -> list[str]:
        return ["".join(p["text"] for p in each["parts"] if p["type"] == "text") for each in self.messages]

    def call(self, code: str, argument: Any = None) -> None:
        """Call a function of useChat, without waiting for what it does."""
        self.page.evaluate(f"argument => {{ chat.{code} }}", argument)

    def send(self, text: str, **more: Any) -> None:
        self.call("sendMessage(argument)", {"text": text, **more})

    def ask(self, text: str, *texts: str, **more: Any) -> None:
        """Send it, and wait for the whole reply."""
        self.send(text, **more)
        self.wait_for_text(-1, *texts)
        self.wait("ready")

    def wait(self, *statuses: str) -> None:
        wait_until(
            lambda: (
                self.page.locator("main").count() == 1
                and self.page.locator("main").get_attribute("data-status") in statuses
            )
        )

    def wait_for_text(self, index: int, text: str) -> None:
        wait_until(lambda: self.texts[index:] and self.texts[index] == text, what=f"{text!r} is there")

    def reloaded(self) -> list[dict[str, Any]]:
        """The messages of the page when it is opened again."""
        self.open()
        self.wait("ready")
        return self.messages


@pytest.fixture(params=VERSIONS)
def tab(
    page: Page,
    pages: str,
    gunicorn: GunicornServer,
    provider: ScriptedProvider,
    request: pytest.FixtureRequest,
) -> Tab:
    return Tab(page, pages, request.param, gunicorn, provider).open()


def plain(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages without what versions add to parts of their own accord."""
    names = {"type", "text", "toolName", "toolCallId", "state", "input", "output", "errorText", "mediaType"}
    return [
        {"id": message["id"], "role": message["role"],
         "parts": [{name: part[name] for name in part.keys() & names if part[name] is not None
                    and not (part["type"] in ("text", "reasoning") and name == "state")}
                   for part in message["parts"]]}
        for message in messages
    ]  # fmt: skip


def test_send_and_reload(tab: Tab) -> None:
    tab.script(openai_stream(openai_chunk({"reasoning_content": "Hm"}), "One."), openai_stream("Two."))
    tab.ask("First", "One.")
    tab.ask("Second", "Two.")
    expect(tab.page.locator("article")).to_have_count(4)
    expect(tab.page.locator("em")).to_have_text("Hm")
    before = tab.messages
    assert plain(tab.reloaded()) == plain(before)
    assert before[1]["metadata"]["usage"] == {"inputTokens": 16, "outputTokens": 3}
    tab.script(openai_stream("Three."))
    tab.ask("Third", "Three.")
    assert [message["content"] for message in tab.sent[-1]] == ["First", "One.", "Second", "Two.", "Third"]


def test_reload_in_the_middle_of_a_reply(tab: Tab) -> None:
    go_on = threading.Event()
    tab.script(openai_stream("So ", "far", go_on, " so good."))
    tab.send("Hi")
    tab.wait_for_text(-1, "So far")
    id_before = tab.messages[-1]["id"]
    tab.open()
    tab.wait_for_text(-1, "So far")
    go_on.set()
    tab.wait_for_text(-1, "So far so good.")
    tab.wait("ready")
    assert tab.texts == ["Hi", "So far so good."]
    assert tab.messages[-1]["id"] == id_before
    assert len(tab.sent) == 1
    assert plain(tab.reloaded())[1]["id"] == id_before


def test_stop(tab: Tab) -> None:
    go_on = threading.Event()
    tab.script(openai_stream("So far", go_on), openai_stream("Next."))
    tab.send("Hi")
    tab.wait_for_text(-1, "So far")
    tab.call("stopThere()")
    tab.wait("ready")
    assert tab.texts == ["Hi", "So far"]
    go_on.set()
    assert [message["role"] for message in tab.reloaded()] == ["user", "assistant"]
    tab.ask("Go on", "Next.")
    assert [message["content"] for message in tab.sent[-1]] == ["Hi", "So far", "Go on"]


def test_leaving_does_not_stop(tab: Tab) -> None:
    go_on = threading.Event()
    tab.script(openai_stream("So ", go_on, "far."))
    tab.send("Hi")
    tab.wait_for_text(-1, "So ")
    tab.call("stop()")  # of the hook: it only closes the connection
    tab.wait("ready")
    go_on.set()
    wait_until(
        lambda: (
            [each["role"] for each in tab.reloaded()] == ["user", "assistant"] and tab.texts[1] == "So far."
        )
    )


def test_edit_and_regenerate(tab: Tab) -> None:
    tab.script(openai_stream("One."), openai_stream("Two."), openai_stream("Other."), openai_stream("Again."))
    tab.ask("First", "One.")
    tab.ask("Second", "Two.")
    tab.ask("Instead", "Other.", messageId=tab.messages[2]["id"])
    assert tab.texts == ["First", "One.", "Instead", "Other."]
    tab.call("regenerate()")
    tab.wait_for_text(-1, "Again.")
    tab.wait("ready")
    assert [message["content"] for message in tab.sent[-1]] == ["First", "One.", "Instead"]
    before = tab.messages
    assert plain(tab.reloaded()) == plain(before)
    tab.script(openai_stream("Anew."))
    tab.call("regenerate({messageId: argument})", before[1]["id"])
    tab.wait_for_text(-1, "Anew.")
    tab.wait("ready")
    assert tab.texts == ["First", "Anew."]
    [conversation] = tab.person.get("/chat/conversations").body
    assert (conversation["source"], conversation["message_count"]) == ("ui", 8)


def test_tools(tab: Tab) -> None:
    tab.script(openai_stream("I look.", tool_calls=CITY, finish="tool_calls"), openai_stream("Sunny."))
    tab.send("Weather?")
    tab.wait_for_text(-1, "I look.Sunny.")
    tab.wait("ready")
    assert len(tab.messages) == 2
    assert [message["role"] for message in tab.sent[-1]] == ["user", "assistant", "tool", "tool"]
    assert [message["content"] for message in tab.sent[-1][2:]] == [
        '{"celsius":28,"city":"Lisbon"}',
        "It has sunk.",
    ]
    expect(tab.page.locator("code")).to_have_text(
        ["get_weather: output-available", "get_weather: output-error"]
    )
    before = tab.messages
    assert plain(tab.reloaded()) == plain(before)
    tab.script(openai_stream("Bye."))
    tab.ask("Thanks", "Bye.")
    assert [message["role"] for message in tab.sent[-1]][-3:] == ["tool", "assistant", "user"]


def test_reload_in_a_later_step(tab: Tab) -> None:
    go_on = threading.Event()
    tab.script(
        openai_stream("I look.", tool_calls=CITY, finish="tool_calls"), openai_stream("Sun", go_on, "ny.")
    )
    tab.send("Weather?")
    tab.wait_for_text(-1, "I look.Sun")
    tab.open()
    tab.wait_for_text(-1, "I look.Sun")
    go_on.set()
    tab.wait_for_text(-1, "I look.Sunny.")
    tab.wait("ready")
    assert len(tab.messages) == 2
    before = tab.messages
    assert plain(tab.reloaded()) == plain(before)


def test_results_after_a_reload(tab: Tab) -> None:
    """A user's answer to a call may come at any time."""
    tab.script(openai_stream(tool_calls=CITY[:1], finish="tool_calls"), openai_stream("Sunny."))
    tab.open(how="by-hand")
    tab.send("Weather?")
    wait_until(lambda: tab.page.locator("code").count() == 1)
    tab.open(how="by-hand")
    expect(tab.page.locator("code")).to_have_text("get_weather: input-available")
    tab.call("addOutput({tool: 'get_weather', toolCallId: 'call_1', output: argument})", "warm")
    tab.wait_for_text(-1, "Sunny.")
    tab.wait("ready")
    assert tab.sent[-1][-1]["content"] == "warm"


def test_a_page_that_sends_the_last_messages_alone(tab: Tab) -> None:
    tab.script(openai_stream("One."), openai_stream("Two."), openai_stream("Other."), openai_stream("Again."))
    tab.open(how="slim")
    tab.ask("First", "One.")
    tab.ask("Second", "Two.")
    assert [message["content"] for message in tab.sent[-1]] == ["First", "One.", "Second"]
    tab.ask("Instead", "Other.", messageId=tab.messages[2]["id"])
    assert [message["content"] for message in tab.sent[-1]] == ["First", "One.", "Instead"]
    tab.call("regenerate()")
    tab.wait_for_text(-1, "Again.")
    tab.wait("ready")
    assert [message["content"] for message in tab.sent[-1]] == ["First", "One.", "Instead"]


def test_files(tab: Tab) -> None:
    tab.script(openai_stream("A dot."), openai_stream("Red."))
    part = {"type": "file", "mediaType": "image/png", "filename": "dot.png", "url": DOT}
    tab.ask("What is this?", "A dot.", files=[part])
    [_, content] = sorted(tab.sent[-1][0]["content"], key=lambda part: part["type"] == "image_url")
    assert content["image_url"]["url"] == DOT
    shown = tab.reloaded()[0]
    assert [each["type"] for each in shown["parts"]] == ["file", "text"]
    address = shown["parts"][0]["url"]
    assert address.startswith("http://127.0.0.1")
    image = tab.page.get_by_role("img", name="dot.png")
    wait_until(lambda: image.evaluate("image => image.complete && image.naturalWidth") == 1)
    tab.ask("Its colour?", "Red.", messageId=shown["id"], files=[{**part, "url": address}])
    assert DOT in str(tab.sent[-1])
    assert len(tab.sent[-1]) == 1


def test_failures_are_shown_and_answered_again(tab: Tab) -> None:
    tab.script(error_answer(429, "slow down"), openai_stream("So far", BREAK), openai_stream("One."))
    tab.send("Hi")
    tab.wait("error")
    expect(tab.page.get_by_role("alert")).to_contain_text("slow down")
    tab.call("regenerate()")
    wait_until(lambda: tab.texts[-1] == "So far" and tab.page.evaluate("chat.status") == "error")
    tab.call("regenerate()")
    tab.wait_for_text(-1, "One.")
    tab.wait("ready")
    assert tab.texts == ["Hi", "One."]
    assert [message["content"] for message in tab.sent[-1]] == ["Hi"]


def test_two_tabs(tab: Tab) -> None:
    go_on = threading.Event()
    tab.script(openai_stream("So ", go_on, "far."))
    tab.send("Hi")
    tab.wait_for_text(-1, "So ")
    with tab.page.context.new_page() as second:
        other = object.__new__(Tab)
        other.__dict__.update(tab.__dict__, page=second)
        other.open()
        other.wait_for_text(-1, "So ")  # follows along
        go_on.set()
        other.wait_for_text(-1, "So far.")
    tab.wait_for_text(-1, "So far.")
