"""Responses with status 200 that report an error, or have no reply in them: why it failed reaches the client."""

import json
from typing import Any

import pytest

from tests.completions.chat import Chat
from tests.support.api import Api
from tests.support.provider import (
    DONE,
    Reply,
    ScriptedProvider,
    anthropic_event,
    anthropic_stream,
    json_answer,
    openai_answer,
    openai_chunk,
    openai_stream,
    sse,
)

MESSAGE = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": {"input_tokens": 3}}
HALF = openai_chunk({"content": "Half "}) + openai_chunk({"content": "an"})
ANTHROPIC_HALF = b"".join(step for step in anthropic_stream("Half ", "an", stop_reason=None, done=False).steps
                          if isinstance(step, bytes))  # fmt: skip
RESPONSE = {
    "id": "r",
    "object": "response",
    "status": "completed",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}],
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
GEMINI = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]}
OLLAMA = {"model": "x", "message": {"role": "assistant", "content": "Hi"}, "done": True}


def choices(value: Any, **more: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion", "choices": value, **more}


# name -> (protocol, answer, code, words of the detail)
NO_REPLY: dict[str, tuple[str, Reply, str, str]] = {
    "no choices": ("openai", json_answer(choices([], usage={"prompt_tokens": 3, "completion_tokens": 0})),
                   "provider_failed", "no reply"),
    "choices null": ("openai", json_answer(choices(None)), "provider_failed", "no reply"),
    "an empty choice": ("openai", json_answer(choices([{}])), "provider_failed", "no reply"),
    "a choice without anything": (
        "openai", json_answer(choices([{"index": 0, "message": None, "finish_reason": None}])), "provider_failed",
        "no reply",
    ),
    "choices that are none": ("openai", json_answer(choices(["x"])), "provider_failed", "no reply"),
    "only usage, streamed": (
        "openai", Reply(sse(choices([])), sse(choices([], usage={"prompt_tokens": 3})), DONE), "provider_failed",
        "no reply",
    ),
    "only a role, streamed": (
        "openai", Reply(openai_chunk({"role": "assistant", "content": ""}), DONE), "provider_failed", "no reply"
    ),
    "only the end mark": ("openai", Reply(DONE), "provider_failed", "no reply"),
    "an empty object": ("openai", json_answer({}), "provider_failed", "no reply"),
    "an empty list": ("openai", json_answer([]), "provider_failed", "no reply"),
    "Responses": ("openai", json_answer(RESPONSE), "provider_failed", "no reply"),
    "Gemini's own": ("openai", json_answer(GEMINI), "provider_failed", "no reply"),
    "Ollama's own": ("openai", json_answer(OLLAMA), "provider_failed", "no reply"),
    "Anthropic's where OpenAI's should be": (
        "openai", json_answer({"type": "message", "content": [{"type": "text", "text": "Hi"}]}), "provider_failed",
        "no reply",
    ),
    "OpenAI's where Anthropic's should be": ("anthropic", openai_answer("Hi"), "provider_failed", "no reply"),
    "OpenAI's stream where Anthropic's should be": ("anthropic", openai_stream("Hi"), "provider_failed", "no reply"),
    "Anthropic's stream where OpenAI's should be": ("openai", anthropic_stream("Hi"), "provider_failed", "no reply"),
    "a list of models": ("openai", json_answer({"object": "list", "data": [{"id": "x"}]}), "provider_failed",
                         "no reply"),
    "a message without content": ("anthropic", json_answer({**MESSAGE, "content": None}), "provider_failed",
                                  "no reply"),
    "a message of nothing": ("anthropic", json_answer(MESSAGE), "provider_failed", "no reply"),
    "a start and an end": (
        "anthropic", Reply(anthropic_event("message_start", message=MESSAGE), anthropic_event("message_stop")),
        "provider_failed", "no reply",
    ),
    "only pings": ("anthropic", Reply(anthropic_event("ping"), anthropic_event("message_stop")), "provider_failed",
                   "no reply"),
    "a blocked prompt of Azure": (
        "openai",
        json_answer(choices([], prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {
            "hate": {"filtered": True, "severity": "high"}, "violence": {"filtered": False}}}])),
        "provider_not_allowed", "hate",
    ),
    "a blocked prompt of Gemini": ("openai", json_answer({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
                                   "provider_not_allowed", "PROHIBITED_CONTENT"),
    "MiniMax": (
        "openai",
        json_answer(choices(None, base_resp={"status_code": 1008, "status_msg": "insufficient balance"})),
        "provider_quota_exceeded", "insufficient balance",
    ),
    "MiniMax, streamed": (
        "openai", Reply(sse(choices(None, base_resp={"status_code": 1002, "status_msg": "too fast"})), DONE),
        "provider_rate_limited", "too fast",
    ),
    "Baidu": ("openai", json_answer({"error_code": 17, "error_msg": "Open api daily request limit reached"}),
              "provider_quota_exceeded", "daily request limit"),
    "FastChat": ("openai", json_answer({"choices": None, "error_code": 50001, "text": "out of memory"}),
                 "provider_failed", "out of memory"),
    "detail": ("openai", json_answer({"detail": "Prompt too long"}), "provider_context_too_long", "Prompt too long"),
    "errors": ("openai", json_answer({"success": False, "errors": [{"message": "not today"}]}), "provider_failed",
               "not today"),
    "message": ("openai", json_answer({"code": "InvalidApiKey", "message": "Wrong"}), "provider_refused_key", "Wrong"),
    "msg": ("openai", json_answer({"code": 500, "msg": "404 NOT_FOUND", "success": False}), "provider_failed",
            "NOT_FOUND"),
    "an error as JSON under a stream's type": (
        "openai", Reply(b'{"error": {"message": "model is loading"}}'), "provider_overloaded", "model is loading"
    ),
    "text in an event": ("openai", Reply(sse("the engine died"), DONE), "provider_failed", "the engine died"),
    "text in an event at Anthropic": ("anthropic", Reply(sse("the engine died")), "provider_failed",
                                      "the engine died"),
    "JSON that is cut": ("openai", Reply(b'data: {"choices": [{\n\n', DONE), "provider_failed", "no reply"),
    "an error in a choice": (
        "openai",
        json_answer(choices([{"index": 0, "message": {"content": ""}, "finish_reason": "error",
                              "error": {"code": 429, "message": "upstream is slow"}}])),
        "provider_rate_limited", "upstream is slow",
    ),
    "an error beside choices": (
        "openai", json_answer(choices([], error={"code": 502, "message": "upstream is gone"})), "provider_failed",
        "upstream is gone",
    ),
    "an error that is a text": ("openai", json_answer({"error": "upstream is gone"}), "provider_failed", "is gone"),
    "an error of Anthropic": (
        "anthropic", json_answer({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        "provider_overloaded", "Overloaded",
    ),
    "another shape at Anthropic": ("anthropic", json_answer({"message": "no such thing"}), "provider_failed",
                                   "no such thing"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_REPLY)
def test_response_without_a_reply_fails(user: Api, provider: ScriptedProvider, name: str) -> None:
    api_format, answer, code, words = NO_REPLY[name]
    chat = Chat.begin(user, provider, api_format=api_format)
    chat.script(answer)
    response = chat.ask(content="A")
    problem = response.get_json()
    assert (response.status_code, problem["code"]) == (429 if "rate" in code else 502, code), problem
    assert words in problem["detail"]
    stream = chat.stream(content="B")
    stream.rest()
    assert stream.end.name == "completion.failed"
    assert stream.end.content["problem"]["code"] == code
    assert stream.end.content["problem"]["detail"] == problem["detail"]
    assert [role for role, *_ in chat.said] == ["user", "user"]


ERROR = {"message": "Model unloaded", "code": "oops"}

# what is sent in the middle of a reply -> (protocol, code, words of the detail)
IN_MID_REPLY: dict[str, tuple[str, bytes, str, str]] = {
    "an error field": ("openai", b'error: {"code":500,"message":"failed to decode"}\n\n', "provider_failed",
                       "failed to decode"),
    "an error field without a space": ("openai", b'error:{"message":"failed to decode"}\n\n', "provider_failed",
                                       "failed to decode"),
    "a named event": ("openai", sse(ERROR, "error"), "provider_failed", "Model unloaded"),
    "an exception": ("openai", sse(ERROR, "exception"), "provider_failed", "Model unloaded"),
    "a named event of text": ("openai", sse("the engine died", "error"), "provider_failed", "the engine died"),
    "a named event with an error": ("openai", sse({"error": ERROR}, "error"), "provider_failed", "Model unloaded"),
    "an error object": ("openai", sse({"error": ERROR}), "provider_failed", "Model unloaded"),
    "a list": ("openai", sse([{"error": ERROR}]), "provider_failed", "Model unloaded"),
    "an error of vLLM": ("openai", sse({"object": "error", "message": "too many tokens", "code": 400}),
                         "provider_context_too_long", "too many tokens"),
    "an error in a choice": (
        "openai",
        sse({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error",
                          "error": {"code": 503, "message": "upstream is gone"}}]}),
        "provider_overloaded", "upstream is gone",
    ),
    "an error beside choices": (
        "openai",
        sse({"error": {"code": "server_error", "message": "upstream is gone"},
             "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}),
        "provider_failed", "upstream is gone",
    ),
    "detail": ("openai", sse({"detail": "the engine died"}), "provider_failed", "the engine died"),
    "base_resp": ("openai", sse({"choices": None, "base_resp": {"status_code": 1039, "status_msg": "token limit"}}),
                  "provider_context_too_long", "token limit"),
    "Anthropic's": ("anthropic", anthropic_event("error", error={"type": "overloaded_error", "message": "Busy"}),
                    "provider_overloaded", "Busy"),
    "Anthropic's without a type": ("anthropic", sse(ERROR, "error"), "provider_failed", "Model unloaded"),
    "Anthropic's without a name": ("anthropic", sse({"type": "error", "error": {"type": "api_error", "message": "No"}}),
                                   "provider_failed", "No"),
    "detail at Anthropic": ("anthropic", sse({"detail": "the engine died"}), "provider_failed", "the engine died"),
}  # fmt: skip


@pytest.mark.parametrize("end", [b"", DONE], ids=["breaks", "ends"])
@pytest.mark.parametrize("name", IN_MID_REPLY)
def test_error_in_mid_reply_is_reported_in_its_words(
    user: Api, provider: ScriptedProvider, name: str, end: bytes
) -> None:
    api_format, event, code, words = IN_MID_REPLY[name]
    chat = Chat.begin(user, provider, api_format=api_format)
    half = HALF if api_format == "openai" else ANTHROPIC_HALF
    chat.script(Reply(half, event + end))
    completion = chat.reply()
    assert (completion["status"], completion["finish_reason"]) == ("incomplete", "error")
    assert (completion["message"]["content"], completion["problem"]["code"]) == ("Half an", code)
    assert words in completion["problem"]["detail"]


@pytest.mark.parametrize(
    ("api_format", "answer"),
    [
        ("openai", openai_stream(finish="stop")),
        ("openai", openai_answer("", finish="stop")),
        (
            "openai",
            json_answer(choices([{"index": 0, "message": {"content": None}, "finish_reason": "stop"}])),
        ),
        ("anthropic", anthropic_stream(stop_reason="end_turn")),
        ("anthropic", json_answer({**MESSAGE, "stop_reason": "end_turn"})),
    ],
)
def test_empty_reply_with_a_good_end_is_complete(
    user: Api, provider: ScriptedProvider, api_format: str, answer: Reply
) -> None:
    """As for the vendors' own clients: the model has decided to say nothing."""
    chat = Chat.begin(user, provider, api_format=api_format)
    chat.script(answer)
    completion = chat.reply()
    assert (completion["status"], completion["finish_reason"]) == ("completed", "stop")
    assert (completion["message"]["content"], completion["problem"]) == ("", None)


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (Reply(sse(choices([], prompt_filter_results=[])), HALF, DONE), "Half an"),
        (Reply(HALF, openai_chunk({}, "stop"), sse(choices([], usage={"prompt_tokens": 3})), DONE), "Half an"),
        (Reply(HALF, openai_chunk({}, "stop"), sse({"base_resp": {"status_code": 0, "status_msg": ""}}), DONE),
         "Half an"),
        (Reply(HALF, sse({"message": "keep alive"}, "ping"), openai_chunk({}, "stop"), DONE), "Half an"),
        (Reply(HALF, sse({"type": "ping"}), openai_chunk({}, "stop"), DONE), "Half an"),
        (Reply(HALF, sse({"status": "processing"}), sse({"id": "c", "created": 1}), openai_chunk({}, "stop")),
         "Half an"),
        (json_answer(choices([{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
                             base_resp={"status_code": 0, "status_msg": "success"}, error=None)), "Hi"),
    ],
    ids=range(7),
)  # fmt: skip
def test_what_is_beside_a_reply_is_no_error(chat: Chat, answer: Reply, content: str) -> None:
    chat.script(answer)
    completion = chat.reply()
    assert (completion["status"], completion["message"]["content"]) == ("completed", content)
    assert completion["problem"] is None


def test_key_is_in_no_words_of_an_error(user: Api, provider: ScriptedProvider) -> None:
    for api_format in ("openai", "anthropic"):
        chat = Chat.begin(user, provider, api_format=api_format)
        for status in (200, 400, 401, 403, 429, 500, 503):
            for body in (
                {"error": {"message": f"Wrong key {chat.key}, see docs"}},
                {"detail": [{"loc": ["header"], "msg": f"bad {chat.key}"}]},
                {"error": {"message": "Provider returned error", "metadata": {"raw": f"no {chat.key[:12]}"}}},
                {"message": json.dumps({"error": f"ends in {chat.key[-4:]}"})},
            ):
                chat.script(json_answer(body, status))
                response = chat.ask()
                assert response.status_code in (429, 502)
                text = response.get_data(as_text=True)
                assert not [part for part in (chat.key, chat.key[:12], chat.key[-8:]) if part in text]
