"""What a response with status 200 is: a stream, JSON or no reply, whatever its Content-Type says."""

import json
from typing import Any

import pytest

from chat_api.egress.errors import Failed
from chat_api.llm.error_codes import OVERLOADED
from chat_api.llm.error_responses import ADVICE
from chat_api.llm.events import Finish, TextDelta
from chat_api.llm.response_body import JSON, MARKUP, STREAM, TEXT, kind_of
from tests.support.asking import KEY, AskingMaker, text_of
from tests.support.provider import (
    DONE,
    Endless,
    Pause,
    Reply,
    ScriptedProvider,
    anthropic_answer,
    anthropic_stream,
    openai_answer,
    openai_chunk,
    openai_stream,
)

STREAM_TYPE, JSON_TYPE = "text/event-stream", "application/json"
TYPES = [
    STREAM_TYPE,
    JSON_TYPE,
    "text/plain; charset=utf-8",
    "application/x-ndjson",
    "application/octet-stream",
    "text/html",
    "binary",
    None,
]
BODIES = {
    "openai-stream": ("openai", openai_stream("Hel", "lo")),
    "openai-json": ("openai", openai_answer("Hello")),
    "anthropic-stream": ("anthropic", anthropic_stream("Hel", "lo")),
    "anthropic-json": ("anthropic", anthropic_answer("Hello")),
}


def body_of(reply: Reply) -> bytes:
    return b"".join(step for step in reply.steps if isinstance(step, bytes))


@pytest.mark.parametrize("media_type", TYPES)
@pytest.mark.parametrize(("api_format", "reply"), BODIES.values(), ids=BODIES)
def test_first_bytes_decide(
    asking: AskingMaker, provider: ScriptedProvider, api_format: str, reply: Reply, media_type: str | None
) -> None:
    provider.script(Reply(body_of(reply), content_type=media_type))
    events = asking(api_format).events()
    assert (text_of(events), events[-1]) == ("Hello", Finish("stop"))


@pytest.mark.parametrize("before", [b"\n", b"  \r\n\t", b"\xef\xbb\xbf", b"\n" * 5000])
@pytest.mark.parametrize(("api_format", "reply"), BODIES.values(), ids=BODIES)
def test_white_space_before_a_reply_is_none_of_it(
    asking: AskingMaker, provider: ScriptedProvider, api_format: str, reply: Reply, before: bytes
) -> None:
    provider.script(Reply(before, Pause(0.01), body_of(reply), content_type="text/plain"))
    assert text_of(asking(api_format).events()) == "Hello"


@pytest.mark.parametrize(("api_format", "reply"), BODIES.values(), ids=BODIES)
def test_reply_may_come_byte_by_byte(
    asking: AskingMaker, provider: ScriptedProvider, api_format: str, reply: Reply
) -> None:
    body = body_of(reply)
    provider.script(Reply(*(body[at : at + 1] for at in range(40)), body[40:], content_type="text/plain"))
    assert text_of(asking(api_format).events()) == "Hello"


def test_stream_is_passed_on_while_it_arrives(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(
        Reply(b": wait\n\n", openai_chunk({"content": "Hi"}), Pause(0.5), DONE, content_type=JSON_TYPE)
    )
    reads = asking().stream()
    assert next(reads) == [TextDelta("Hi")]
    assert not provider.last.answered.is_set()
    assert list(reads) == [[Finish("stop")]]


@pytest.mark.parametrize("media_type", [STREAM_TYPE, JSON_TYPE, "text/plain"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (json.dumps({"error": {"message": "model is loading"}}).encode(), "model is loading"),
        (json.dumps([{"error": {"message": "model is loading"}}], indent=2).encode(), "model is loading"),
        (b"model is loading", "model is loading"),
        (b"Error: model is\nloading\n", "Error: model is loading"),
        (b"data is missing", "data is missing"),
        (b"upstream\tconnect error, key " + KEY.encode(), "upstream connect error, key ****"),
        (b'error: {"code":500,"message":"model is loading"}\n\n', "model is loading"),
    ],
)
@pytest.mark.parametrize("api_format", ["openai", "anthropic"])
def test_error_is_reported_in_its_words(
    asking: AskingMaker,
    provider: ScriptedProvider,
    api_format: str,
    media_type: str,
    body: bytes,
    words: str,
) -> None:
    provider.script(Reply(body, content_type=media_type))
    error = asking(api_format).error()
    assert isinstance(error, Failed)
    assert error.detail.removeprefix(ADVICE[OVERLOADED]).strip() == f"The provider reported: {words}"


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>Sign in", b"\n<html>", b"<?xml version='1.0'?><e/>"])
@pytest.mark.parametrize("media_type", [STREAM_TYPE, JSON_TYPE, "text/html"])
def test_web_page_is_refused(
    asking: AskingMaker, provider: ScriptedProvider, media_type: str, page: bytes
) -> None:
    provider.script(Reply(page, content_type=media_type))
    assert "a web page (HTML) instead of a reply" in asking().error().detail


@pytest.mark.parametrize("body", [b"\x89PNG\r\n\x1a\n\x00\x00", b"\x1f\x8b\x08\x00", b"\xff\xfe\xfd"])
def test_what_is_no_text_is_named_by_its_type(
    asking: AskingMaker, provider: ScriptedProvider, body: bytes
) -> None:
    provider.script(Reply(body, content_type="image/png"))
    assert asking().error().detail == "The provider answered with image/png instead of a reply."


def test_long_text_that_is_no_reply_is_not_read_to_its_end(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    provider.script(Reply(Endless(b"no reply at all " * 1000)))
    assert "no reply at all" in asking().error().detail
    assert provider.last.closed.wait(1)


@pytest.mark.parametrize("media_type", TYPES)
def test_chunks_as_lines_of_json(
    asking: AskingMaker, provider: ScriptedProvider, media_type: str | None
) -> None:
    choices: list[dict[str, Any]] = [
        {"delta": {"content": "Hel"}},
        {"delta": {"content": "lo"}, "finish_reason": "stop"},
    ]
    lines = b"".join(json.dumps({"choices": [choice]}).encode() + b"\n" for choice in choices)
    provider.script(Reply(lines, content_type=media_type))
    assert asking().events() == [TextDelta("Hello"), Finish("stop")]


@pytest.mark.parametrize("size", [1_500_000, 5_000_000])
def test_line_may_be_as_long_as_a_reply(asking: AskingMaker, provider: ScriptedProvider, size: int) -> None:
    provider.script(openai_stream("a" * 10, openai_chunk({"picture": "A" * size}), "b"))
    assert text_of(asking(reply_bytes=1024 * 1024).events()) == "a" * 10 + "b"


def test_long_line_of_very_many_objects_is_refused_before_it_is_parsed(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    line = b'data: {"choices": [' + b"{}," * 500_000 + b"{}]}\n\n"
    provider.script(openai_stream("a", line, Pause(0.2), "b"))
    events, error = asking().until_error()
    assert text_of(events) == "a"
    assert error.detail == "The provider sent an event of more than 200000 objects and arrays."


@pytest.mark.parametrize(
    ("head", "soon", "in_the_end"),
    [
        (b"", None, STREAM),
        (b"d", None, TEXT),
        (b"data", None, STREAM),
        (b"data:", STREAM, STREAM),
        (b"data\n", STREAM, STREAM),
        (b":", STREAM, STREAM),
        (b"error: x", STREAM, STREAM),
        (b"retry:1", STREAM, STREAM),
        (b"\xef\xbb", None, STREAM),
        (b"{", JSON, JSON),
        (b"[", JSON, JSON),
        (b"<", MARKUP, MARKUP),
        (b"date: x", TEXT, TEXT),
        (b"Model not loaded", TEXT, TEXT),
        (b"429", None, TEXT),
    ],
)
def test_kind_of_a_body(head: bytes, soon: str | None, in_the_end: str) -> None:
    assert kind_of(head, is_whole=False) == soon
    assert kind_of(head, is_whole=True) == in_the_end
