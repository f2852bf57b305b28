"""What providers do wrong: what the client gets, what is kept, and that the conversation goes on."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from chat_api.llm import client
from tests.completions.chat import Chat, wait_for
from tests.support.api import Api
from tests.support.provider import (
    BREAK,
    CUT,
    DONE,
    STALL,
    Endless,
    Pause,
    Raw,
    Reply,
    ScriptedProvider,
    anthropic_event,
    error_answer,
    json_answer,
    openai_chunk,
    openai_stream,
    sse,
)
from tests.support.tables import everything_stored


@pytest.fixture
def hasty(chat: Chat, hasty_app: Flask) -> Chat:
    """The chat at a worker that waits for one second, and takes replies of 2,000 bytes."""
    return chat.on(hasty_app)


HTML = Reply(b"<html>Bad gateway</html>", status=502, content_type="text/html", framing="length")

# name -> (answer, status, code)
BEFORE_THE_FIRST_WORD: dict[str, tuple[Reply, int, str]] = {
    "400": (error_answer(400, "the prompt is too long"), 502, "provider_context_too_long"),
    "401": (error_answer(401, "Incorrect API key provided"), 502, "provider_refused_key"),
    "403": (error_answer(403, "Forbidden"), 502, "provider_refused_key"),
    "404": (error_answer(404, "no such model"), 502, "provider_model_not_found"),
    "500": (error_answer(500, "oops"), 502, "provider_failed"),
    "503": (error_answer(503, "overloaded"), 502, "provider_overloaded"),
    "HTML with 502": (HTML, 502, "provider_failed"),
    "HTML with 200": (Reply(b"<html></html>", content_type="text/html"), 502, "provider_failed"),
    "a redirect": (
        Reply(status=302, headers={"Location": "http://127.0.0.1:1/"}, framing="length"),
        502,
        "provider_failed",
    ),
    "no HTTP": (Raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), 502, "provider_failed"),
    "nothing": (Raw(), 502, "provider_unreachable"),
    "reset": (Raw(BREAK), 502, "provider_unreachable"),
    "an empty stream": (Reply(), 502, "provider_unreachable"),
    "a stream of nonsense": (Reply(sse("{nonsense"), sse("[1, 2]"), DONE), 502, "provider_failed"),
    "JSON that is no reply": (json_answer({"hello": "world"}), 502, "provider_failed"),
    "an error with 200": (json_answer({"error": {"message": "no"}}), 502, "provider_failed"),
    "an error in the stream": (Reply(sse({"error": {"message": "no"}})), 502, "provider_failed"),
    "only its role": (openai_stream(CUT), 502, "provider_unreachable"),
    "silence": (Raw(STALL), 504, "provider_timeout"),
    "silence after the head": (Reply(STALL), 504, "provider_timeout"),
    "a line without end": (
        Reply(b'data: {"choices": [', Endless(b"x" * 65536), framing="close"),
        502,
        "provider_failed",
    ),
    "headers without end": (
        Raw(b"HTTP/1.1 200 OK\r\n", Endless(b"X-A: " + b"b" * 4096 + b"\r\n")),
        502,
        "provider_failed",
    ),
}


@pytest.mark.parametrize("name", BEFORE_THE_FIRST_WORD)
def test_before_the_first_word(hasty: Chat, name: str) -> None:
    answer, status, code = BEFORE_THE_FIRST_WORD[name]
    hasty.script(answer)
    response = hasty.ask(content="A")
    problem = response.get_json()
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["detail"]
    assert problem["title"]
    assert problem["request_id"] == response.headers["X-Request-ID"]
    stream = hasty.stream(content="B")
    stream.rest()
    assert stream.end.name == "completion.failed"
    assert (stream.end.content["problem"]["status"], stream.end.content["problem"]["code"]) == (status, code)
    # the user's messages are kept, nothing empty was put behind them, and the conversation goes on
    assert hasty.said == [("user", "A", "completed"), ("user", "B", "completed")]
    for completion in hasty.completions:
        assert (completion["status"], completion["finish_reason"]) == ("failed", "error")
        assert (completion["message"], completion["problem"]["code"]) == (None, code)
    hasty.script(openai_stream("Here I am."))
    assert hasty.reply(content="C")["message"]["content"] == "Here I am."


def test_nobody_listens(hasty: Chat) -> None:
    with ScriptedProvider() as gone:
        url = gone.url
    provider_id = hasty.api.provider(api_endpoint=url)["id"]
    hasty.api.config(provider_id)
    response = hasty.ask(provider_id=provider_id)
    assert (response.status_code, response.get_json()["code"]) == (502, "provider_unreachable")
    assert hasty.said == [("user", "Hello", "completed")]


def test_a_name_that_nobody_has(hasty: Chat) -> None:
    provider_id = hasty.api.provider(api_endpoint="https://nobody.invalid/v1")["id"]
    hasty.api.config(provider_id)
    assert hasty.ask(provider_id=provider_id).status_code in (502, 504)


@pytest.mark.parametrize(
    ("answer", "status", "code", "wait_s"),
    [
        (error_answer(429, "slow down", {"Retry-After": "17"}), 429, "provider_rate_limited", "17"),
        (error_answer(429, "slow down", {"Retry-After-Ms": "16900"}), 429, "provider_rate_limited", "17"),
        (error_answer(429, "slow down"), 429, "provider_rate_limited", "1"),
        (error_answer(503, "too busy", {"Retry-After": "17"}), 502, "provider_overloaded", "17"),
        (error_answer(529, "too busy", {"Retry-After": "17"}), 502, "provider_overloaded", "17"),
        (error_answer(503, "too busy"), 502, "provider_overloaded", None),
        (error_answer(429, "pay first", code="insufficient_quota"), 502, "provider_quota_exceeded", None),
    ],
)
def test_when_to_try_again_is_passed_on(
    chat: Chat, answer: Reply, status: int, code: str, wait_s: str | None
) -> None:
    chat.script(answer)
    response = chat.ask(content="A")
    assert (response.status_code, response.headers.get("Retry-After")) == (status, wait_s)
    assert response.get_json()["code"] == code
    stream = chat.stream(content="B")
    stream.rest()
    problem = stream.end.content["problem"]
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem.get("retry_after_s") == (int(wait_s) if wait_s else None)
    assert problem["detail"] == response.get_json()["detail"]


IN_MID_STREAM: dict[str, tuple[Reply, int, str]] = {
    "breaks": (openai_stream("So ", "far", BREAK), 502, "provider_unreachable"),
    "is cut": (openai_stream("So ", "far", CUT), 502, "provider_unreachable"),
    "ends without an end": (
        openai_stream("So ", "far", finish=None, usage=None, done=False), 502, "provider_unreachable"
    ),
    "stalls": (openai_stream("So ", "far", STALL), 504, "provider_timeout"),
    "reports an error": (openai_stream("So ", "far", sse({"error": {"message": "x"}})), 502, "provider_failed"),
    "never ends its line": (openai_stream("So ", "far", Endless(b"x" * 65536)), 502, "provider_failed"),
    "garbles its framing": (
        Reply(b"%x\r\n" % 1000 + openai_chunk({"content": "So far"}).ljust(1000) + b"\r\n", Pause(0.1), b"zz\r\n",
              framing="close", headers={"Transfer-Encoding": "chunked"}),
        502,
        "provider_failed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_MID_STREAM)
def test_in_mid_stream(hasty: Chat, name: str) -> None:
    answer, status, code = IN_MID_STREAM[name]
    hasty.script(answer, openai_stream("And on."))
    stream = hasty.stream(content="A")
    stream.rest()
    completion = hasty.get(stream.id)
    assert (stream.text, stream.end.name) == ("So far", "completion.incomplete")
    assert stream.end.content == {"completion": completion, "problem": completion["problem"]}
    assert (completion["status"], completion["finish_reason"]) == ("incomplete", "error")
    assert (completion["problem"]["status"], completion["problem"]["code"]) == (status, code)
    assert completion["usage"]["estimated"] is True
    assert completion["usage"]["completion_tokens"] == 2
    # what came is a message, and goes along with the next turn
    assert hasty.said == [("user", "A", "completed"), ("assistant", "So far", "incomplete")]
    assert hasty.reply(content="B")["message"]["content"] == "And on."
    sent = [(message["role"], message["content"]) for message in hasty.sent[1].json["messages"]]
    assert sent == [("user", "A"), ("assistant", "So far"), ("user", "B")]


def test_in_mid_stream_without_a_stream_what_came_is_the_answer(chat: Chat) -> None:
    chat.script(openai_stream("So far", BREAK))
    response = chat.ask()
    completion = response.get_json()
    assert response.status_code == 201
    assert (completion["status"], completion["message"]["content"]) == ("incomplete", "So far")
    assert completion["problem"]["code"] == "provider_unreachable"


def test_an_endless_reply_is_cut_off(hasty: Chat) -> None:
    hasty.script(openai_stream(Endless(openai_chunk({"content": "ü" * 100}))))
    completion = hasty.reply()
    assert (completion["status"], completion["finish_reason"]) == ("incomplete", "length")
    assert completion["message"]["content"] == "ü" * 1000
    assert hasty.sent[0].closed.wait(2)


def test_endless_reasoning_is_cut_off(hasty: Chat) -> None:
    hasty.script(openai_stream(Endless(openai_chunk({"reasoning_content": "x" * 100}))))
    completion = hasty.reply()
    assert (completion["status"], completion["message"]) == ("incomplete", None)
    assert completion["reasoning"] == "x" * 2000


def test_a_reply_of_too_many_parts_is_cut_off(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short they are: their order is stored with the reply."""
    monkeypatch.setattr(client, "MAX_PARTS", 4)
    parts = [openai_chunk({"reasoning_content": "r"}), openai_chunk({"content": "t"})] * 3
    chat.script(openai_stream(*parts))
    completion = chat.reply()
    assert (completion["status"], completion["finish_reason"]) == ("incomplete", "length")
    assert (completion["reasoning"], completion["message"]["content"]) == ("rr", "tt")


def test_a_provider_that_only_pings_is_closed_in_the_end(chat: Chat, serve: Any) -> None:
    with serve(PROVIDER_TOTAL_TIMEOUT_S=1) as app:
        chat.script(openai_stream("a", Endless(b": ping\n\n", pause_s=0.05)))
        completion = chat.on(app).reply()
        assert (completion["status"], completion["problem"]["status"]) == ("incomplete", 504)
        assert chat.sent[0].closed.wait(2)


def test_malformed_frames_among_good_ones(chat: Chat) -> None:
    chat.script(openai_stream("So ", sse("{broken"), b": comment\r\n\r\n", b"event: x\n\n", "far"))
    completion = chat.reply()
    assert (completion["status"], completion["message"]["content"]) == ("completed", "So far")


def test_more_tokens_than_can_be_stored_cost_no_reply(eve: Api, provider: ScriptedProvider) -> None:
    """Each number fits its column, their sum does not."""
    chat = Chat.begin(eve, provider, api_format="anthropic")
    usage = {"input_tokens": 2**31 - 1, "cache_read_input_tokens": 2**31 - 1}
    chat.script(
        Reply(
            anthropic_event("message_start", message={"usage": usage}),
            anthropic_event("content_block_start", index=0, content_block={"type": "text", "text": "Hi"}),
            anthropic_event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
            anthropic_event("message_stop"),
        )
    )
    completion = chat.reply()
    assert (completion["status"], completion["message"]["content"]) == ("completed", "Hi")
    assert completion["usage"]["estimated"] is True


def test_a_redirect_is_not_followed(chat: Chat) -> None:
    with ScriptedProvider() as target:
        chat.script(Reply(status=307, headers={"Location": target.url}, framing="length"))
        assert chat.ask().status_code == 502
        assert target.requests == []


def test_the_answer_does_not_repeat_what_a_provider_says_in_markup(chat: Chat) -> None:
    chat.script(Reply(b"<script>alert(1)</script>", status=500, content_type="text/html", framing="length"))
    assert "<" not in chat.ask().get_json()["detail"]


# -- the key ---------------------------------------------------------------------------------------------------


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All log records, of the least severity, too."""
    with caplog.at_level(logging.DEBUG):
        yield caplog


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_the_key_is_nowhere(
    ada: Api,
    provider: ScriptedProvider,
    status: int,
    everything_logged: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not in an answer, an event, a log line or a table, though the provider says it in all places it can."""
    chat = Chat.begin(ada, provider)
    message = f"The key {chat.key} is wrong. Authorization: Bearer {chat.key}"
    answer = error_answer(status, message, {"X-Key": chat.key}, param=chat.key, code=chat.key)
    broken = openai_stream("So far", sse({"error": {"message": message, "code": chat.key}}))
    chat.script(answer, answer, broken, Raw(f"HTTP/1.1 200 {chat.key}\r\n".encode(), BREAK))
    seen = [
        chat.ask().get_data(as_text=True),
        *(chat.ask(stream=True).get_data(as_text=True) for _ in range(3)),
    ]
    seen += [
        repr(chat.completions),
        repr(chat.messages),
        chat.ask(query="?dry_run=true").get_data(as_text=True),
    ]
    seen += [chat.api.get(f"/chat/llm-providers/{chat.provider_id}/models").get_data(as_text=True)]
    output = capfd.readouterr()
    seen += [everything_logged.text, repr([vars(record) for record in everything_logged.records])]
    seen += [output.out, output.err, everything_stored(chat.api.app)]
    assert len(chat.sent) == 4
    assert all(chat.key in request.headers["authorization"] for request in chat.sent)
    for text in seen:
        assert chat.key not in text
        assert chat.key[3:20] not in text


def test_models_of_a_provider_that_fails(eve: Api, hasty_app: Flask) -> None:
    with ScriptedProvider() as own:
        chat = Chat.begin(eve, own).on(hasty_app)
        path = f"/chat/llm-providers/{chat.provider_id}/models"
        for answer, status, code in (
            (error_answer(401, f"wrong key {chat.key}"), 502, "provider_refused_key"),
            (error_answer(500, "no"), 502, "provider_failed"),
            (error_answer(429, "no", {"Retry-After": "7"}), 429, "provider_rate_limited"),
            (HTML, 502, "provider_failed"),
            (Raw(STALL), 504, "provider_timeout"),
            (Raw(BREAK), 502, "provider_unreachable"),
            (json_answer({"data": "none"}), 502, "provider_failed"),
            (json_answer({"object": "list"}), 502, "provider_failed"),
            (Reply(Endless(b"x" * 65536), content_type="application/json"), 502, "provider_failed"),
        ):
            own.script(answer)
            response = chat.api.get(path)
            assert (response.status_code, response.get_json()["code"]) == (status, code)
            assert chat.key not in response.get_data(as_text=True)
            if status == 429:
                assert response.headers["Retry-After"] == "7"


def test_a_blocked_address_is_found_out_without_a_call(chat: Chat, serve: Any) -> None:
    """In production loopback is blocked, too, unless an operator allows that very origin."""
    allowed = {"APP_ENV": "production", "OUTGOING_ALLOWED": (chat.provider.origin,)}
    with serve(APP_ENV="production") as strict, serve(**allowed) as opened:
        response = chat.on(strict).ask()
        assert (response.status_code, response.get_json()["code"]) == (502, "provider_blocked")
        assert chat.sent == []
        assert chat.on(opened).reply()["status"] == "completed"
        wait_for(lambda: len(chat.sent) == 1)


# -- a system without threads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
def test_a_reply_that_gets_no_thread_is_reported_as_stored_and_failed(
    chat: Chat, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    """The question is committed by then: a refusal would make the client send it again."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("reply-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        if streamed:
            stream = chat.stream()
            stream.rest()
            assert [event.name for event in stream.seen] == ["completion.started", "completion.failed"]
            completion_id = stream.id
        else:
            response = chat.ask()
            assert (response.status_code, response.get_json()["code"]) == (503, "unavailable")
            completion_id = response.get_json()["completion_id"]
    completion = chat.get(completion_id)
    assert (completion["status"], completion["problem"]["code"]) == ("failed", "unavailable")
    assert [role for role, *_ in chat.said] == ["user"]
    chat.script(openai_stream("Here again."))
    assert chat.reply()["message"]["content"] == "Here again."
