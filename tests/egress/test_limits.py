"""What ends a call: each limit, each way to break, and `cancel` in each phase."""

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from chat_api.egress.cancellation import CancelToken
from chat_api.egress.errors import Cancelled, EgressError, Failed, TimedOut, Unreachable
from chat_api.egress.gate import Gate
from chat_api.llm import client
from chat_api.llm.client import Client
from chat_api.llm.events import Finish, ReasoningDelta, TextDelta
from tests.support.asking import LIMITS, Asking, AskingMaker, finish_of, text_of
from tests.support.provider import (
    BREAK,
    DONE,
    STALL,
    Endless,
    Pause,
    Raw,
    Reply,
    ScriptedProvider,
    openai_chunk,
    openai_stream,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port whose system takes no more connections: whoever connects waits."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        time.sleep(0.05)
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


@pytest.fixture
def mute_port() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said: not even TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# -- time ---------------------------------------------------------------------------------------------------


def test_connect_limit(gate: Gate, silent_port: int) -> None:
    begin = time.monotonic()
    error = Asking(gate, f"http://127.0.0.1:{silent_port}", "openai", connect_s=0.3).error()
    assert isinstance(error, TimedOut)
    assert "connection" in error.detail
    assert 0.25 < time.monotonic() - begin < 1.5


def test_connect_limit_holds_for_tls_too(gate: Gate, mute_port: int) -> None:
    begin = time.monotonic()
    error = Asking(gate, f"https://127.0.0.1:{mute_port}", "openai", connect_s=0.3).error()
    assert isinstance(error, TimedOut)
    assert time.monotonic() - begin < 1.5


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Raw(STALL), id="before-the-head"),
        pytest.param(Raw(HEAD, STALL), id="in-the-head"),
        pytest.param(Raw(HEAD, Endless(b"X-A: b\r\n", 0.1)), id="dripping-head"),
        pytest.param(Reply(STALL), id="before-the-body"),
    ],
)
def test_first_byte_limit(asking: AskingMaker, provider: ScriptedProvider, reply: Reply) -> None:
    provider.script(reply)
    begin = time.monotonic()
    error = asking(first_byte_s=0.4, idle_s=0.1).error()
    assert isinstance(error, TimedOut)
    assert "within 0.4 seconds" in error.detail
    assert 0.3 < time.monotonic() - begin < 1.5
    assert provider.last.closed.wait(1)


def test_idle_limit_keeps_what_came(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(openai_stream("a", Pause(0.2), "b", STALL))
    begin = time.monotonic()
    events, error = asking(idle_s=0.5).until_error()
    assert text_of(events) == "ab"
    assert isinstance(error, TimedOut)
    assert "silent for 0.5 seconds" in error.detail
    assert 0.6 < time.monotonic() - begin < 2
    assert provider.last.closed.wait(1)


def test_signs_of_life_keep_a_slow_provider_alive(asking: AskingMaker, provider: ScriptedProvider) -> None:
    pings = [step for _ in range(5) for step in (b": PROCESSING\n\n", Pause(0.15))]
    provider.script(Reply(*pings, *openai_stream("a").steps))
    assert text_of(asking(idle_s=0.5, first_byte_s=0.5).events()) == "a"


def test_total_limit(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(openai_stream("a", Endless(openai_chunk({"content": "x"}), 0.05)))
    begin = time.monotonic()
    events, error = asking(total_s=0.6, idle_s=5).until_error()
    assert text_of(events).startswith("ax")
    assert isinstance(error, TimedOut)
    assert "whole reply" in error.detail
    assert 0.5 < time.monotonic() - begin < 2
    assert provider.last.closed.wait(1)


def test_total_limit_holds_while_nothing_is_complete(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(Reply(Endless(b"d", 0.05)))
    begin = time.monotonic()
    assert isinstance(asking(total_s=0.5).error(), TimedOut)
    assert time.monotonic() - begin < 2


# -- size ---------------------------------------------------------------------------------------------------


def test_line_limit(asking: AskingMaker, provider: ScriptedProvider) -> None:
    looks_like_a_file = (b"data: " + b"x" * 1000, Pause(0.05), b"x" * 1000)
    provider.script(openai_stream("a", *looks_like_a_file, Endless(b" " + b"x" * 1000)))
    events, error = asking(line_bytes=10_000, reply_bytes=1000).until_error()
    assert text_of(events) == "a"
    assert isinstance(error, Failed)
    assert "10000 bytes" in error.detail
    assert provider.last.closed.wait(1)


def test_run_limit(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(openai_stream("a", Endless(b": " + b"x" * 1000 + b"\n\n")))
    events, error = asking(response_bytes=100_000).until_error()
    assert text_of(events) == "a"
    assert isinstance(error, Failed)
    assert "larger than the limit" in error.detail
    assert provider.last.closed.wait(1)


@pytest.mark.parametrize("kind", ["content", "reasoning_content"])
def test_answer_limit_cuts_between_characters(
    asking: AskingMaker, provider: ScriptedProvider, kind: str
) -> None:
    provider.script(Reply(openai_chunk({kind: "ab"}), Pause(0.05), Endless(openai_chunk({kind: "€€"}), 0.02)))
    events = asking(reply_bytes=12).events()  # "ab" and three times three bytes, one to spare
    assert finish_of(events) == "length"
    texts = [event.text for event in events if isinstance(event, (TextDelta, ReasoningDelta))]
    assert "".join(texts) == "ab€€€"
    assert provider.last.closed.wait(1)


def test_answer_limit_holds_for_tool_calls(asking: AskingMaker, provider: ScriptedProvider) -> None:
    fragment = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "x" * 100}}
    provider.script(openai_stream("a", Endless(openai_chunk({"tool_calls": [fragment]}))))
    events = asking(reply_bytes=5000).events()
    assert [type(event) for event in events] == [TextDelta, Finish]
    assert finish_of(events) == "length"
    assert provider.last.closed.wait(1)


def texts_in_one_response(api_format: str, texts: list[str]) -> Reply:
    answer = {
        "openai": {
            "choices": [
                {
                    "message": {"content": [{"type": "text", "text": text} for text in texts]},
                    "finish_reason": "stop",
                }
            ]
        },
        "anthropic": {
            "content": [{"type": "text", "text": text} for text in texts],
            "stop_reason": "end_turn",
        },
    }[api_format]
    return Reply(json.dumps(answer).encode(), content_type="application/json")


@pytest.mark.parametrize("api_format", ["openai", "anthropic"])
def test_several_texts_in_one_response_are_joined(
    asking: AskingMaker, provider: ScriptedProvider, api_format: str
) -> None:
    texts = ["a" * 26] * 1000
    provider.script(texts_in_one_response(api_format, texts))
    assert text_of(asking(api_format).events()) == "".join(texts)


@pytest.mark.parametrize("api_format", ["openai", "anthropic"])
def test_very_many_texts_in_one_response_are_refused_at_once(
    asking: AskingMaker, provider: ScriptedProvider, api_format: str
) -> None:
    provider.script(texts_in_one_response(api_format, ["a" * 26] * 50_000))
    begin = time.process_time()
    assert asking(api_format).error().detail == "The provider sent a list of more than 1000 items."
    assert time.process_time() - begin < 1


def test_a_response_of_very_many_objects_is_refused_before_it_is_parsed(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    content = b'{"choices": [' + b"{}," * 200_000 + b"{}]}"
    provider.script(Reply(content, content_type="application/json"))
    assert "more than 200000 objects and arrays" in asking().error().detail


EMPTY_STREAMS = {
    "frames": (b"data:\n\n", "too many events without content"),
    "no-json": (b"data:x\n\n", "too many events without content"),
    "no-choices": (b'data:{"choices":[]}\n\n', "too many events without content"),
    "empty-texts": (b'data:{"choices":[{"delta":{"content":""}}]}\n\n', "too many events without content"),
    "long-frames": (b"data:" + b"x" * 1_000_000 + b"\n\n", "too many events without content"),
    "comments": (b":\n", "too many lines"),
    "line-ends": (b"\n", "too many lines"),
    "ids": (b"id:1\n", "too many lines"),
    "data-lines": (b"data\n" * 50_000 + b"\n", "too many lines"),
    "tool-calls": (
        b'data:{"choices":[{"delta":{"tool_calls":[{"function":{"name":"a"}}]}}]}\n\n',
        "more than 500 tool calls",
    ),
}


@pytest.mark.parametrize(("block", "detail"), EMPTY_STREAMS.values(), ids=EMPTY_STREAMS.keys())
def test_a_stream_that_brings_nothing_ends_soon(
    asking: AskingMaker, provider: ScriptedProvider, block: bytes, detail: str
) -> None:
    """Up to 64 MiB of it were read, at up to 22 seconds of CPU."""
    provider.script(openai_stream("a", Endless(block * max(65536 // len(block), 1))))
    begin = time.process_time()
    events, error = asking().until_error()
    assert isinstance(error, Failed)
    assert detail in error.detail
    assert text_of(events) == "a"
    assert time.process_time() - begin < 5  # with the provider, which is this process, too


def test_a_stream_of_tiny_texts_ends_with_a_clear_error(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    block = b'data:{"choices":[{"delta":{"content":"a"}}]}\n\n' * 5000
    provider.script(Reply(Endless(block)))
    events, error = asking(reply_bytes=16 * 1024 * 1024).until_error()
    assert "more than 500000 events" in error.detail
    assert 490_000 < len(text_of(events)) <= 505_000


def test_each_change_between_text_and_reasoning_counts(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    block = b'data:{"choices":[{"delta":{"content":"a","reasoning":"b"}}]}\n\n' * 100
    provider.script(Reply(Endless(block)))
    events = asking(reply_bytes=10_000).events()
    assert finish_of(events) == "length"
    assert len(events) == 197 + 1  # each 1 byte and 50, except the first; and the end


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        pytest.param(b"1\r\n\n\r\n" * 5000, "too many tiny chunks", id="chunks"),
        pytest.param(b"0\r\n" + b"a\n" * 50_000, "too many trailers", id="trailers"),
    ],
)
def test_chunked_encoding_of_very_many_parts_is_refused(
    asking: AskingMaker, provider: ScriptedProvider, body: bytes, detail: str
) -> None:
    provider.script(Raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", Endless(body)))
    assert detail in asking().error().detail


def test_list_of_models_has_a_limit_of_its_own(
    asking: AskingMaker, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MODELS_TOTAL_S", 0.5)
    provider.script(Reply(Endless(b" ", 0.05), content_type="application/json"))
    begin = time.monotonic()
    with pytest.raises(TimedOut):
        asking().client.list_models(asking().endpoint)
    assert time.monotonic() - begin < 5
    assert provider.last.closed.wait(1)


def test_endless_head_fails(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(Raw(HEAD, Endless(b"X-A: " + b"b" * 1000 + b"\r\n")))
    assert isinstance(asking().error(), Failed)


def test_endless_answer_in_one_piece_fails(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(Reply(Endless(b'{"a":"' + b"x" * 10_000), content_type="application/json"))
    assert isinstance(asking(reply_bytes=10_000).error(), Failed)
    assert provider.last.closed.wait(1)


def test_endless_error_answer_is_read_to_its_bound(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(Reply(Endless(b"x" * 10_000), status=500))
    error = asking().error()
    assert isinstance(error, Failed)
    assert "500" in error.detail
    assert provider.last.closed.wait(1)


# -- what is no HTTP, or breaks -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(Raw(b"SSH-2.0-OpenSSH_9.2\r\n", STALL), Failed, id="another-protocol"),
        pytest.param(Raw(b"HTTP/1.1 abc\r\n\r\n"), Failed, id="no-status"),
        pytest.param(Raw(b"\x00\xff" * 1000), Failed, id="garbage"),
        pytest.param(Raw(), Unreachable, id="nothing"),
        pytest.param(Raw(BREAK), Unreachable, id="reset"),
        pytest.param(Raw(b"HTTP/1.1 200 OK\r\nConte"), Unreachable, id="half-a-head"),
        pytest.param(Raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), Failed, id="no-chunk-size"),
        pytest.param(
            Raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", Endless(b"1")), Failed, id="endless-chunk-size"
        ),
        pytest.param(Raw(HEAD + b"Content-Length: 50\r\n\r\nabc"), Unreachable, id="too-short"),
        pytest.param(Raw(HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b"), Failed, id="compressed"),
    ],
)
def test_what_is_no_answer(
    asking: AskingMaker, provider: ScriptedProvider, reply: Reply, kind: type[EgressError]
) -> None:
    provider.script(reply)
    assert type(asking().error()) is kind


def test_refused_connection(gate: Gate, mute_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = Asking(gate, f"http://127.0.0.1:{port}", "openai").error()
    assert isinstance(error, Unreachable)
    assert "refused" in error.detail
    assert "127.0.0.1" not in error.detail


def test_information_before_the_answer_is_skipped(asking: AskingMaker, provider: ScriptedProvider) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    body = openai_chunk({"content": "a"}) + DONE
    provider.script(Raw(early, Pause(0.02), HEAD + b"\r\n" + body))
    assert text_of(asking().events()) == "a"


def test_frames_may_be_split_anywhere(asking: AskingMaker, provider: ScriptedProvider) -> None:
    """One byte at a time, in chunks of one byte each, CRLF and a character of several bytes among them."""
    body = openai_chunk({"content": "a😀"}).replace(b"\n", b"\r\n").replace(b"\\ud83d\\ude00", "😀".encode())
    content = body + DONE
    raw = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in content) + b"0\r\nTrailer: x\r\n\r\n"
    provider.script(
        Raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *(raw[at : at + 1] for at in range(len(raw))))
    )
    assert text_of(asking().events()) == "a😀"


# -- cancel -------------------------------------------------------------------------------------------------


def cancelled_after(ask: Asking, seconds: float) -> float:
    """Cancel a call after some time; returns how long it took from then until it raised Cancelled."""
    at: list[float] = []

    def cancel() -> None:
        time.sleep(seconds)
        at.append(time.monotonic())
        ask.cancel_token.cancel()
        ask.cancel_token.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    _, error = ask.until_error()
    raised_at = time.monotonic()
    thread.join()
    assert isinstance(error, Cancelled)
    return raised_at - at[0]


def test_cancel_before_the_call(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking()
    ask.cancel_token.cancel()
    assert isinstance(ask.error(), Cancelled)
    assert provider.connections == 0


def test_cancel_while_the_name_is_looked_up() -> None:
    forever = threading.Event()

    def resolver(host: str, port: int) -> list[str]:
        forever.wait(10)
        return []

    ask = Asking(Gate(resolver=resolver), "https://slow.example.com", "openai", connect_s=5)
    assert cancelled_after(ask, 0.1) < 1
    forever.set()


def test_lookups_that_outlive_their_calls_are_limited() -> None:
    forever, begun = threading.Event(), []

    def resolver(host: str, port: int) -> list[str]:
        begun.append(host)
        forever.wait(30)
        return []

    def look_up(host: str) -> EgressError:
        gate = Gate(resolver=resolver)
        return Asking(gate, f"https://{host}", "openai", connect_s=0.02).error()

    try:
        errors = [look_up(f"{number}.slow.example.com") for number in range(10)]
        assert [type(error) for error in errors] == [TimedOut] * 8 + [Unreachable] * 2
        assert "too many lookups" in errors[-1].detail
        for number in range(70):  # other names are looked up, up to a limit of all
            look_up(f"slow.domain-{number}.com")
        assert len(begun) == 64
    finally:
        forever.set()
    for _ in range(100):
        if not any(thread.name == "look up provider" for thread in threading.enumerate()):
            break
        time.sleep(0.02)
    assert isinstance(look_up("again.example.com"), Unreachable)
    assert begun[-1] == "again.example.com"


def test_cancel_while_connecting(gate: Gate, silent_port: int) -> None:
    ask = Asking(gate, f"http://127.0.0.1:{silent_port}", "openai", connect_s=5)
    assert cancelled_after(ask, 0.2) < 1


def test_cancel_in_the_handshake(gate: Gate, mute_port: int) -> None:
    ask = Asking(gate, f"https://127.0.0.1:{mute_port}", "openai", connect_s=5)
    assert cancelled_after(ask, 0.2) < 1


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Raw(STALL), id="before-the-head"),
        pytest.param(Reply(STALL), id="before-the-first-byte"),
        pytest.param(openai_stream("a", STALL), id="mid-stream"),
        pytest.param(openai_stream("a", Endless(openai_chunk({"content": "x"}), 0.001)), id="fast-stream"),
        pytest.param(Reply(STALL, status=500), id="in-an-error"),
        pytest.param(Reply(b"{", STALL, content_type="application/json"), id="in-an-object"),
    ],
)
def test_cancel_while_reading_closes_the_connection(
    asking: AskingMaker, provider: ScriptedProvider, reply: Reply
) -> None:
    provider.script(reply)
    assert cancelled_after(asking(), 0.2) < 1
    assert provider.last.closed.wait(1)


def test_cancel_while_the_request_is_sent(gate: Gate) -> None:
    """The peer takes nothing, so the system's buffers fill up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ask = Asking(gate, f"http://127.0.0.1:{listener.getsockname()[1]}", "openai")
        reads = ask.stream("x" * 30_000_000)
        threading.Timer(0.3, ask.cancel_token.cancel).start()
        begin = time.monotonic()
        with pytest.raises(Cancelled):
            next(reads)
        assert time.monotonic() - begin < 2


def test_cancel_after_the_end_does_nothing_to_others(asking: AskingMaker, provider: ScriptedProvider) -> None:
    """The connection has gone back and serves another call."""
    first = asking()
    first.events()
    second = asking()
    provider.script(openai_stream("a", Pause(0.2), "b"))
    reads = second.stream()
    events = next(reads)
    first.cancel_token.cancel()
    assert text_of([*events, *(event for read in reads for event in read)]) == "ab"
    assert provider.connections == 1


def test_calls_run_in_parallel(gate: Gate, provider: ScriptedProvider) -> None:
    """One client for all threads; cancelling one touches no other."""
    client, outcomes = Client(gate, LIMITS), dict[int, str]()
    provider.script(openai_stream("a", Pause(0.3), "b"))
    tokens = [CancelToken() for _ in range(20)]

    def run(number: int) -> None:
        ask = Asking(gate, provider.url, "openai")
        ask.client, ask.cancel_token = client, tokens[number]
        try:
            outcomes[number] = text_of(ask.events())
        except Cancelled:
            outcomes[number] = "cancelled"

    threads = [threading.Thread(target=run, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    provider.wait_for_request(count=20)
    for cancel_token in tokens[::2]:
        cancel_token.cancel()
    for thread in threads:
        thread.join()
    assert outcomes == {number: "ab" if number % 2 else "cancelled" for number in range(20)}


# -- pace ---------------------------------------------------------------------------------------------------


def test_fast_chunks_are_taken_several_at_a_time(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(openai_stream(*(["x"] * 100), pause_s=0.002))
    reads = list(asking().stream())
    assert text_of([event for read in reads for event in read]) == "x" * 100
    assert len(reads) < 60


def test_neither_first_chunk_nor_slow_ones_are_delayed(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    sent: list[float] = []

    def noted(number: int) -> bytes:
        return openai_chunk({"content": str(number)})

    class Noting(threading.Event):
        """A step that takes no time and notes when it is its turn."""

        def is_set(self) -> bool:
            sent.append(time.monotonic())
            return True

    steps = [step for number in range(12) for step in (Noting(), noted(number), Pause(0.025))]
    provider.script(Reply(*steps, DONE))
    arrived = [time.monotonic() for _ in asking().stream()][:-1]
    delays = sorted(there - here for here, there in zip(sent, arrived, strict=True))
    assert delays[len(delays) // 2] < 0.005


# -- chunked coding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [b"zz\r\n", b"-5\r\n", b"\r\n", b"1" * 5000, b"11111111111111111\r\n"])
def test_what_came_in_front_of_a_malformed_chunk_is_kept(
    asking: AskingMaker, provider: ScriptedProvider, garbage: bytes
) -> None:
    frame = openai_chunk({"content": "What came is kept."})
    packet = b"%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n%b" % (HEAD, len(frame), frame, garbage)
    provider.script(Raw(packet))
    events, error = asking().until_error()
    assert text_of(events) == "What came is kept."
    assert isinstance(error, Failed)
    assert "malformed" in error.detail
