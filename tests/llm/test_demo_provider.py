"""`flask demo-provider`: a local model that repeats the user's message, in both protocols, at a set pace."""

import http.client
import itertools
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chat_api.egress.cancellation import CancelToken
from chat_api.egress.gate import Gate
from chat_api.egress.limits import Limits
from chat_api.llm.client import Client
from chat_api.llm.demo_provider import DemoProvider
from chat_api.llm.events import Finish, TextDelta, Usage
from chat_api.llm.request import API_FORMATS, ChatMessage, ChatRequest, Endpoint
from chat_api.operations.cli import serve_demo_provider
from tests.support.server import REPOSITORY

QUICK, SLOW = 500.0, 10.0  # words per second
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
HELLO = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello,  wörld!"}]
PROMPT_WORDS = 4


class RunningProvider:
    """A demo provider in a thread, and the lines that it reported."""

    def __init__(self, words_per_second: float) -> None:
        self.lines: list[str] = []
        self.server = DemoProvider(
            "127.0.0.1", 0, words_per_second=words_per_second, report=self.lines.append
        )
        self.port = int(self.server.server_address[1])

    @contextmanager
    def open(self, method: str, path: str, body: Any = None) -> Iterator[http.client.HTTPResponse]:
        """Send a request on a connection of its own; bytes are sent as they are."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, content, {"Authorization": "Bearer anything"})
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        with self.open(method, path, body) as response:
            return response.status, json.loads(response.read())

    def stream(self, path: str, **body: Any) -> list[tuple[str | None, Any]]:
        """The events of a streamed reply: name, if there is one, and content."""
        with self.open(
            "POST", path, {"model": "echo", "messages": HELLO, "stream": True, **body}
        ) as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/event-stream")
            return list(events_of(response))

    def wait_for_lines(self, count: int = 1) -> list[str]:
        """What it reported; a line may come a moment after the reply that it is about."""
        deadline = time.monotonic() + 10
        while len(self.lines) < count:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.01)
        return self.lines


def events_of(response: http.client.HTTPResponse) -> Iterator[tuple[str | None, Any]]:
    """Each event as soon as it is there; `[DONE]` stays text."""
    name = None
    for line in iter(response.readline, b""):
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, value if value == "[DONE]" else json.loads(value)
            name = None


@contextmanager
def running(words_per_second: float) -> Iterator[RunningProvider]:
    provider = RunningProvider(words_per_second)
    thread = threading.Thread(target=provider.server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        thread.join()
        provider.server.server_close()


@pytest.fixture(scope="module")
def quick() -> Iterator[RunningProvider]:
    with running(QUICK) as provider:
        yield provider


@pytest.fixture
def slow() -> Iterator[RunningProvider]:
    with running(SLOW) as provider:
        yield provider


def chat_text(events: list[tuple[str | None, Any]]) -> str:
    chunks = [event for _, event in events[:-1]]
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])


# -- chat completions -------------------------------------------------------------------------------------


def test_a_streamed_chat_completion_repeats_what_was_said(quick: RunningProvider) -> None:
    events = quick.stream(CHAT)
    text = chat_text(events)
    assert text.startswith("You said: Hello,  wörld!\n")
    assert events[0][1]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert events[-2][1]["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert events[-1] == (None, "[DONE]")
    assert len({event["id"] for _, event in events[:-1]}) == 1
    assert len(events) == 1 + len(text.split()) + 2  # one event a word
    assert all("usage" not in event for _, event in events[:-1])


def test_usage_is_streamed_to_whom_asks_for_it(quick: RunningProvider) -> None:
    events = quick.stream(CHAT, stream_options={"include_usage": True})
    said = len(chat_text(events).split())
    assert events[-2][1]["choices"] == []
    assert events[-2][1]["usage"] == {
        "prompt_tokens": PROMPT_WORDS,
        "completion_tokens": said,
        "total_tokens": PROMPT_WORDS + said,
    }


def test_a_whole_chat_completion_is_what_a_stream_adds_up_to(quick: RunningProvider) -> None:
    status, answer = quick.ask("POST", CHAT, {"model": "any", "messages": HELLO})
    choice = answer["choices"][0]
    assert (status, answer["object"], answer["model"]) == (200, "chat.completion", "any")
    assert choice["message"]["content"] == chat_text(quick.stream(CHAT))
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == len(choice["message"]["content"].split())


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_chat_completion_is_cut_at_the_limit(quick: RunningProvider, name: str) -> None:
    events = quick.stream(CHAT, **{name: 3})
    assert chat_text(events) == "You said: Hello,"
    assert events[-2][1]["choices"][0]["finish_reason"] == "length"
    body = {"messages": HELLO, name: 3}
    _, answer = quick.ask("POST", CHAT, body)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


def test_a_limit_of_exactly_the_reply_cuts_nothing(quick: RunningProvider) -> None:
    length = len(chat_text(quick.stream(CHAT)).split())
    for limit, reason in ((length, "stop"), (length - 1, "length")):
        assert quick.stream(CHAT, max_tokens=limit)[-2][1]["choices"][0]["finish_reason"] == reason


def test_the_last_message_of_the_user_is_repeated_and_all_are_counted(quick: RunningProvider) -> None:
    parts = [{"type": "text", "text": "the"}, {"type": "image_url"}, {"type": "text", "text": "last"}]
    talk = [*HELLO, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": parts}]
    _, answer = quick.ask("POST", CHAT, {"messages": [*talk, {"role": "assistant", "content": None}]})
    assert answer["choices"][0]["message"]["content"].startswith("You said: the\nlast\n")
    assert answer["usage"]["prompt_tokens"] == PROMPT_WORDS + 1 + 2


@pytest.mark.parametrize("messages", [[], [{"role": "system", "content": "Be kind."}]])
def test_somebody_who_said_nothing_gets_a_reply_too(quick: RunningProvider, messages: list[Any]) -> None:
    _, answer = quick.ask("POST", CHAT, {"messages": messages})
    assert answer["choices"][0]["message"]["content"].startswith("You said nothing.")


# -- messages ---------------------------------------------------------------------------------------------


def test_streamed_messages_repeat_what_was_said(quick: RunningProvider) -> None:
    messages = HELLO[1:]
    events = quick.stream(MESSAGES, messages=messages, system="Be kind.", max_tokens=1000)
    names = [name for name, _ in events]
    assert names == [event["type"] for _, event in events]
    assert [name for name, _ in itertools.groupby(names)] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    contents = [event for _, event in events]
    text = "".join(event["delta"]["text"] for event in contents if event["type"] == "content_block_delta")
    assert text == chat_text(quick.stream(CHAT))
    assert contents[0]["message"]["usage"]["input_tokens"] == PROMPT_WORDS
    assert contents[-2]["delta"]["stop_reason"] == "end_turn"
    assert contents[-2]["usage"]["output_tokens"] == len(text.split())


def test_a_whole_message_is_cut_at_the_limit(quick: RunningProvider) -> None:
    status, answer = quick.ask("POST", MESSAGES, {"messages": HELLO, "max_tokens": 2})
    assert status == 200
    assert answer["content"] == [{"type": "text", "text": "You said:"}]
    assert answer["stop_reason"] == "max_tokens"
    assert answer["usage"] == {"input_tokens": PROMPT_WORDS, "output_tokens": 2}


# -- the service's own client -----------------------------------------------------------------------------


@pytest.mark.parametrize("api_format", API_FORMATS)
def test_the_services_client_understands_it(quick: RunningProvider, api_format: str) -> None:
    endpoint = Endpoint(api_format, quick.server.base_url, "any-key")
    messages = (ChatMessage("system", "Be kind."), ChatMessage("user", "Hello,  wörld!"))
    request = ChatRequest("echo", messages, {"max_tokens": 3})
    with closing(Gate(allow_loopback=True)) as gate:
        client = Client(gate, Limits())
        assert [model.id for model in client.list_models(endpoint)] == ["echo"]
        events = [event for read in client.stream(endpoint, request, CancelToken()) for event in read]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "You said: Hello,"
    assert events[-1] == Finish("length")
    assert [event for event in events if isinstance(event, Usage)][-1] == Usage(PROMPT_WORDS, 3)


# -- the rest of the protocol -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models?limit=1000"])
def test_there_is_one_model(quick: RunningProvider, path: str) -> None:
    status, answer = quick.ask("GET", path)
    assert (status, [model["id"] for model in answer["data"]]) == (200, ["echo"])


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        (CHAT, b"{", "not JSON"),
        (CHAT, b"[" * 100_000, "not JSON"),
        (CHAT, b"\xff", "not JSON"),
        (CHAT, [], "not a JSON object"),
        (CHAT, {}, "messages"),
        (CHAT, {"messages": ["Hello"]}, "messages"),
        (CHAT, {"messages": HELLO, "max_tokens": 0}, "max_tokens"),
        (CHAT, {"messages": HELLO, "max_tokens": True}, "max_tokens"),
        (MESSAGES, {"messages": HELLO}, "max_tokens"),
        (MESSAGES, {"messages": "Hello", "max_tokens": 1}, "messages"),
    ],
)
def test_a_bad_request_is_refused_with_the_reason(
    quick: RunningProvider, path: str, body: Any, complaint: str
) -> None:
    status, answer = quick.ask("POST", path, body)
    assert status == 400
    assert complaint in answer["error"]["message"]
    assert answer.get("type") == ("error" if path == MESSAGES else None)


@pytest.mark.parametrize(("method", "path"), [("GET", CHAT), ("POST", "/v1/embeddings"), ("GET", "/")])
def test_what_is_not_there_is_404(quick: RunningProvider, method: str, path: str) -> None:
    status, answer = quick.ask(method, path, {} if method == "POST" else None)
    assert status == 404
    assert path.removeprefix("/v1") in answer["error"]["message"]


def test_a_body_of_unknown_length_is_refused(quick: RunningProvider) -> None:
    with socket.create_connection(("127.0.0.1", quick.port), timeout=10) as client:
        client.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))  # it closes the connection
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Length" in answer


def test_a_connection_serves_one_request_after_the_other(quick: RunningProvider) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", quick.port, timeout=10)
    try:
        for is_streamed in (True, False, True):
            body = json.dumps({"messages": HELLO, "stream": is_streamed, "max_tokens": 2})
            connection.request("POST", CHAT, body)
            had_socket = connection.sock
            assert b"said:" in connection.getresponse().read()
            assert connection.sock is had_socket
    finally:
        connection.close()


# -- pace, and clients that leave -------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_words_come_one_by_one_at_the_pace(slow: RunningProvider, path: str) -> None:
    words = 6
    began = time.monotonic()
    times = []
    with slow.open("POST", path, {"messages": HELLO, "stream": True, "max_tokens": words}) as response:
        for _, event in events_of(response):
            if word_of(event):
                times.append(time.monotonic() - began)
    assert len(times) == words
    for number, moment in enumerate(times, 1):
        assert moment > (number - 0.01) / SLOW  # never early
    assert times[-1] - times[0] > (words - 2) / SLOW  # nor all at the end


def word_of(event: Any) -> str | None:
    """The word that an event brings."""
    if not isinstance(event, dict):
        return None
    if "delta" in event:
        return event["delta"].get("text")
    return event["choices"][0]["delta"].get("content") if event.get("choices") else None


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_client_that_leaves_a_stream_ends_it(slow: RunningProvider, path: str) -> None:
    with slow.open("POST", path, {"messages": HELLO, "stream": True, "max_tokens": 1000}) as response:
        seen = 0
        for _, event in events_of(response):
            seen += bool(word_of(event))
            if seen == 3:
                break
    left = time.monotonic()
    (line,) = slow.wait_for_lines()
    assert time.monotonic() - left < 1
    words = re.fullmatch(r"client left after (\d+) words", line)
    assert words is not None, line
    assert 3 <= int(words[1]) <= 6


def test_a_client_that_leaves_before_the_first_word_is_noticed_at_once(slow: RunningProvider) -> None:
    slow.server.words_per_second = 0.1
    for is_streamed in (True, False):
        slow.lines.clear()
        body = json.dumps({"messages": HELLO, "stream": is_streamed}).encode()
        with socket.create_connection(("127.0.0.1", slow.port), timeout=10) as client:
            client.sendall(
                b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(body)) + body
            )
            time.sleep(0.1)
        left = time.monotonic()
        assert slow.wait_for_lines() == ["client left after 0 words"]
        assert time.monotonic() - left < 2


def test_a_client_that_stays_gets_the_whole_reply(slow: RunningProvider) -> None:
    slow.server.words_per_second = QUICK
    length = len(chat_text(slow.stream(CHAT)).split())
    slow.stream(CHAT, max_tokens=4)
    assert slow.wait_for_lines(2) == [f"sent {length} words", "sent 4 words, cut by max_tokens"]


def test_clients_do_not_wait_for_each_other(slow: RunningProvider) -> None:
    began = time.monotonic()
    body = {"messages": HELLO, "max_tokens": 5}
    threads = [threading.Thread(target=slow.ask, args=["POST", CHAT, body]) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 10 * 5 / SLOW / 2
    assert slow.wait_for_lines(10) == ["sent 5 words, cut by max_tokens"] * 10


# -- the command ------------------------------------------------------------------------------------------


def test_the_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "wsgi", "demo-provider", "--port", "0"],
        cwd=REPOSITORY,
        env={"DATA_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            url = re.search(r"http://127\.0\.0\.1:(\d+)/v1", line)
            assert url is not None, line
            connection = http.client.HTTPConnection("127.0.0.1", int(url[1]), timeout=10)
            connection.request("POST", CHAT, json.dumps({"messages": HELLO, "max_tokens": 1}))
            assert json.loads(connection.getresponse().read())["choices"][0]["message"]["content"] == "You"
            connection.close()
            assert process.stdout.readline() == "sent 1 word, cut by max_tokens\n"
        finally:
            process.send_signal(signal.SIGINT)
        assert process.stdout.read().strip() == "Stopped."
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["--host", "127.0.0.1"],
            "is in use: stop what listens there, or choose another port with --port "
            "(as in `make demo-provider DEMO_PORT=8101`).",
        ),
        (["--host", "192.0.2.1"], "Can't listen on 192.0.2.1"),
    ],
)
def test_the_command_says_why_it_cannot_listen(
    quick: RunningProvider, arguments: list[str], complaint: str
) -> None:
    command = ["--port", str(quick.port), *arguments]
    result = CliRunner().invoke(serve_demo_provider, command)
    assert result.exit_code == 1, result.output
    assert result.output.startswith("Error: ")
    assert complaint in result.output
    assert result.output.count("\n") == 1
