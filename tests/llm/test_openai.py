"""OpenAI's protocol: what is sent, and what is made of what providers answer."""

import json
from typing import Any

import pytest

from chat_api.egress.errors import Failed, Unreachable
from chat_api.llm import error_codes
from chat_api.llm.errors import ProviderError
from chat_api.llm.events import Event, Finish, ProviderState, ReasoningDelta, TextDelta, ToolCall, Usage
from chat_api.llm.model_lists import Model
from chat_api.llm.request import ChatMessage, ChatRequest
from tests.support.asking import KEY, AskingMaker, finish_of, text_of
from tests.support.provider import (
    BREAK,
    CUT,
    DONE,
    Reply,
    ScriptedProvider,
    error_answer,
    json_answer,
    openai_answer,
    openai_chunk,
    openai_stream,
    sse,
)


def test_request_is_what_the_protocol_says(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking()
    messages = (
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "What is this?"),
        ChatMessage("assistant", "", tool_calls=(ToolCall("call_1", "look", '{"at":1}'),)),
        ChatMessage("tool", "a cat", tool_call_id="call_1"),
    )
    list(ask.send(*messages, temperature=0.5, model="other", stream=False, messages=[]))
    sent = provider.last
    assert (sent.method, sent.path) == ("POST", "/v1/chat/completions")
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["host"] == f"127.0.0.1:{provider.port}"
    assert sent.json == {
        "model": "gpt-x",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is this?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "look", "arguments": '{"at":1}'},
                    }
                ],
            },
            {"role": "tool", "content": "a cat", "tool_call_id": "call_1"},
        ],
    }


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        ("", "/chat/completions"),
        ("/", "/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/openai/v1?api-version=preview&a=b", "/openai/v1/chat/completions?api-version=preview&a=b"),
        ("?a=b", "/chat/completions?a=b"),
    ],
)
def test_path_is_appended_to_the_endpoints_own(
    asking: AskingMaker, provider: ScriptedProvider, endpoint: str, path: str
) -> None:
    ask = asking()
    ask.endpoint = type(ask.endpoint)("openai", provider.origin + endpoint, KEY)
    ask.events()
    assert provider.last.path == path


def test_no_key_sends_no_authorization(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking()
    ask.endpoint = type(ask.endpoint)("openai", provider.url, "")
    ask.events()
    assert "authorization" not in provider.last.headers


def test_reply_is_text_usage_and_finish(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(openai_stream("Hel", "lo ", "😀"))
    events = asking().events()
    assert text_of(events) == "Hello 😀"
    assert events[-2:] == [Usage(16, 3), Finish("stop")]


def chunk(**fields: Any) -> bytes:
    return sse({"choices": [{"index": 0, **fields}]})


def call_fragment(**fields: Any) -> bytes:
    return openai_chunk({"tool_calls": [fields]})


SAYS_HI: list[Event] = [TextDelta("Hi"), Finish("stop")]
STOP = openai_chunk({}, "stop")
HI = openai_chunk({"content": "Hi"})


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param([HI, STOP], SAYS_HI, id="neither-usage-nor-done"),
        pytest.param([HI, DONE], SAYS_HI, id="done-without-finish"),
        pytest.param([HI, STOP, DONE, HI], SAYS_HI, id="more-after-done"),
        pytest.param([HI, b'data: "[DONE]"\n\n', HI], SAYS_HI, id="done-as-a-json-string"),
        pytest.param(
            [openai_chunk({"content": "[DONE]"}), HI, STOP],
            [TextDelta("[DONE]Hi"), Finish("stop")],
            id="done-as-a-text",
        ),
        pytest.param(
            [HI, openai_chunk({}, "length"), DONE], [TextDelta("Hi"), Finish("length")], id="length"
        ),
        pytest.param([HI, openai_chunk({}, "eos"), DONE], [TextDelta("Hi"), Finish("stop")], id="synonym"),
        pytest.param([HI, STOP, BREAK], SAYS_HI, id="breaks-after-finish"),
        pytest.param([HI, STOP, CUT], SAYS_HI, id="cut-after-finish"),
        pytest.param(
            [b": PROCESSING\n\n", HI, b"data: {bad\n\n", STOP, DONE], SAYS_HI, id="comment-and-malformed"
        ),
        pytest.param(
            [sse({"choices": []}), sse({"choices": None, "usage": None}), HI, STOP], SAYS_HI, id="no-choices"
        ),
        pytest.param([chunk(delta=None, finish_reason=None), chunk(), HI, STOP], SAYS_HI, id="null-delta"),
        pytest.param(
            [chunk(delta={"role": "assistant", "content": None}), HI, STOP], SAYS_HI, id="role-only"
        ),
        pytest.param(
            [openai_chunk({"content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}), STOP],
            SAYS_HI,
            id="parts",
        ),
        pytest.param(
            [
                openai_chunk(
                    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}
                ),
                HI,
                STOP,
            ],
            [ReasoningDelta("hm"), TextDelta("Hi"), Finish("stop")],
            id="thinking-parts",
        ),
        pytest.param(
            [openai_chunk({"reasoning_content": "hm"}), HI, STOP],
            [
                ReasoningDelta("hm"),
                TextDelta("Hi"),
                ProviderState({"message": {"reasoning_content": "hm"}}),
                Finish("stop"),
            ],
            id="reasoning_content",
        ),
        pytest.param(
            [openai_chunk({"reasoning": "hm", "content": ""}), HI, STOP],
            [
                ReasoningDelta("hm"),
                TextDelta("Hi"),
                ProviderState({"message": {"reasoning": "hm"}}),
                Finish("stop"),
            ],
            id="reasoning",
        ),
        pytest.param(
            [openai_chunk({"refusal": "No."}), STOP], [TextDelta("No."), Finish("stop")], id="refusal"
        ),
        pytest.param(
            [
                HI,
                chunk(delta={"content": "!"}, index=0),
                sse({"choices": [{"index": 1, "delta": {"content": "other"}}]}),
                STOP,
            ],
            [TextDelta("Hi!"), Finish("stop")],
            id="second-alternative",
        ),
        pytest.param([sse({"choices": [{"delta": {"content": "Hi"}}]}), STOP], SAYS_HI, id="no-index"),
        pytest.param(
            [sse({"choices": ["x", 7, {"delta": []}], "usage": "none"}), HI, STOP], SAYS_HI, id="wrong-types"
        ),
        pytest.param([sse("[1]"), sse("7"), sse("null"), HI, STOP], SAYS_HI, id="not-objects"),
        pytest.param(
            [sse('{"choices":[{"delta":{"content":"a\\ud83d"},"logprobs":NaN}]}'), STOP],
            [TextDelta("a\ufffd"), Finish("stop")],
            id="half-a-character-and-nan",
        ),
        pytest.param(
            [HI, STOP, openai_chunk(usage={"prompt_tokens": 9}), DONE],
            [TextDelta("Hi"), Usage(9, None), Finish("stop")],
            id="half-of-the-usage",
        ),
        pytest.param(
            [HI, STOP, openai_chunk(usage={"prompt_tokens": -1, "completion_tokens": 2**70}), DONE],
            SAYS_HI,
            id="impossible-usage",
        ),
        pytest.param(
            [
                call_fragment(index=1, id="c", function={"name": "f", "arguments": ""}),
                call_fragment(index=1, function={"arguments": '{"a'}),
                call_fragment(index=1, function={"arguments": '":1}'}),
                openai_chunk({}, "tool_calls"),
            ],
            [ToolCall("c", "f", '{"a":1}'), Finish("tool_calls")],
            id="call-from-index-1",
        ),
        pytest.param(
            [call_fragment(index=0, id="c", function={"name": "f", "arguments": "{}"}), STOP],
            [ToolCall("c", "f", "{}"), Finish("tool_calls")],
            id="call-in-one-delta-that-says-stop",
        ),
        pytest.param(
            [
                call_fragment(index=0, id="a", function={"name": "f", "arguments": "{}"}),
                call_fragment(index=0, id="b", function={"name": "f", "arguments": "[]"}),
                STOP,
            ],
            [ToolCall("a", "f", "{}"), ToolCall("b", "f", "[]"), Finish("tool_calls")],
            id="calls-of-the-same-index",
        ),
        pytest.param(
            [
                call_fragment(id="a", function={"name": "f", "arguments": "{"}),
                call_fragment(function={"arguments": "}"}),
                call_fragment(id="b", function={"name": "g", "arguments": {"x": 1}}),
                STOP,
            ],
            [ToolCall("a", "f", "{}"), ToolCall("b", "g", '{"x":1}'), Finish("tool_calls")],
            id="calls-without-index",
        ),
        pytest.param(
            [
                call_fragment(index=0, id="a", function={"name": "f", "arguments": "{"}),
                call_fragment(index=1, id="b", function={"name": "g", "arguments": "["}),
                call_fragment(index=0, function={"arguments": "}"}),
                call_fragment(index=1, function={"arguments": "]"}),
                STOP,
            ],
            [ToolCall("a", "f", "{}"), ToolCall("b", "g", "[]"), Finish("tool_calls")],
            id="calls-interleaved",
        ),
    ],
)
def test_decoding(
    asking: AskingMaker, provider: ScriptedProvider, steps: list[Any], expected: list[Event]
) -> None:
    pieces = [step for step in steps if isinstance(step, bytes)]
    provider.script(Reply(b"".join(pieces), *steps[len(pieces) :]))  # what is read at once is merged
    assert asking().events() == expected


def test_tool_call_without_id_gets_one(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(Reply(call_fragment(index=0, function={"name": "f", "arguments": "{}"}), STOP))
    call, _ = asking().events()
    assert isinstance(call, ToolCall)
    assert call.id.startswith("call_")
    assert len(call.id) > 20


@pytest.mark.parametrize("framing", ["length", "close"])
def test_answer_in_one_piece_is_taken_too(
    asking: AskingMaker, provider: ScriptedProvider, framing: str
) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    answer = openai_answer("Hello", finish="tool_calls", tool_calls=calls, reasoning_content="hm")
    body = b"".join(step for step in answer.steps if isinstance(step, bytes))
    provider.script(Reply(body, content_type="application/json; charset=utf-8", framing=framing))
    assert asking().events() == [
        ReasoningDelta("hm"),
        TextDelta("Hello"),
        ToolCall("c", "f", "{}"),
        ProviderState({"message": {"reasoning_content": "hm"}}),
        Usage(16, 3),
        Finish("tool_calls"),
    ]


@pytest.mark.parametrize(
    ("event", "code", "detail"),
    [
        (
            {"error": {"message": "It broke", "type": "server_error"}},
            error_codes.FAILED,
            "The provider reported: It broke",
        ),
        ({"error": "It broke"}, error_codes.FAILED, "The provider reported: It broke"),
        (
            [{"error": {"code": 500, "message": "It broke"}}],
            error_codes.FAILED,
            "The provider reported: It broke",
        ),
        (
            {"object": "error", "message": "It broke", "code": 40001},
            error_codes.FAILED,
            "The provider reported: It broke",
        ),
        (
            {"error": {}, "choices": []},
            error_codes.UNREACHABLE,
            "The provider's response ended before the reply was complete.",
        ),
        ({"error": {"code": 429, "message": "slow down"}}, error_codes.RATE_LIMITED, None),
        (
            {"error": {"code": "invalid_api_key", "message": f"Wrong key {KEY}"}},
            error_codes.KEY_REFUSED,
            None,
        ),
        (
            {"error": {"message": f"bad\n{KEY} and {KEY[:9]}… here"}},
            error_codes.FAILED,
            "The provider reported: bad **** and **** here",
        ),
    ],
)
def test_error_in_the_stream_keeps_what_came(
    asking: AskingMaker, provider: ScriptedProvider, event: Any, code: str, detail: str | None
) -> None:
    provider.script(Reply(HI + sse(event)))
    events, error = asking().until_error()
    assert text_of(events) == "Hi"
    assert error.code == code
    assert detail is None or error.detail == detail
    assert KEY not in error.detail


DEEP = "[" * 900 + "]" * 900
DEEP_OBJECT = '{"a":' * 300 + "1" + "}" * 300
CALL = '{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":%s}}]}}]}'


@pytest.mark.parametrize(
    ("chunk", "detail"),
    [
        pytest.param('{"error":{"code":' + DEEP + "}}", "reported an error", id="error-code"),
        pytest.param(CALL % DEEP_OBJECT, "can't be read", id="deep-arguments"),
        pytest.param(CALL % ('{"a":NaN,"b":1' + "0" * 30 + "}"), "can't be read", id="large-number"),
    ],
)
def test_what_cannot_be_read_fails_as_the_providers_fault(
    asking: AskingMaker, provider: ScriptedProvider, chunk: str, detail: str
) -> None:
    provider.script(Reply(HI + f"data: {chunk}\n\n".encode()))
    events, error = asking().until_error()
    assert (text_of(events), error.code) == ("Hi", error_codes.FAILED)
    assert detail in error.detail


def test_text_in_parts_that_are_too_deep_is_none(asking: AskingMaker, provider: ScriptedProvider) -> None:
    chunk = '{"choices":[{"delta":{"content":' + DEEP + "}}]}"
    provider.script(Reply(HI + f"data: {chunk}\n\n".encode() + STOP))
    assert text_of(asking().events()) == "Hi"


@pytest.mark.parametrize("end", [[], [CUT], [BREAK]])
def test_stream_that_just_ends_is_no_reply(
    asking: AskingMaker, provider: ScriptedProvider, end: list[Any]
) -> None:
    provider.script(Reply(HI, *end))
    events, error = asking().until_error()
    assert (text_of(events), type(error)) == ("Hi", Unreachable)


@pytest.mark.parametrize(
    "body", [b"data: {oops\n\n" * 3, b"data: {oops\n\n" + DONE, sse({"other": 1}) + DONE]
)
def test_stream_without_any_valid_frame_fails(
    asking: AskingMaker, provider: ScriptedProvider, body: bytes
) -> None:
    provider.script(Reply(body))
    error = asking().error()
    assert error.code == error_codes.FAILED
    assert "no reply" in error.detail


def test_mark_of_the_end_alone_is_no_reply(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(Reply(DONE))
    assert "no reply" in asking().error().detail


def test_texts_of_one_read_are_one_event(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(Reply(b"".join(openai_chunk({"content": str(digit)}) for digit in range(10)) + STOP))
    reads = list(asking().stream())
    assert reads == [[TextDelta("0123456789")], [Finish("stop")]]


@pytest.mark.parametrize("status", [400, 422])
def test_server_that_does_not_know_stream_options_is_called_without(
    asking: AskingMaker, provider: ScriptedProvider, status: int
) -> None:
    provider.script(error_answer(status, "Unknown field: stream_options"), openai_stream("ok"))
    assert text_of(asking().events()) == "ok"
    first, second = (request.json for request in provider.requests)
    assert first.pop("stream_options") == {"include_usage": True}
    assert second == first


def test_server_that_wants_max_completion_tokens_gets_them(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    complaint = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    provider.script(error_answer(400, complaint), error_answer(400, "stream_options?"), openai_stream("ok"))
    assert text_of(asking().events(max_tokens=7)) == "ok"
    last = provider.last.json
    assert last["max_completion_tokens"] == 7
    assert not last.keys() & {"max_tokens", "stream_options"}


def test_other_complaints_are_not_sent_again(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(error_answer(400, "stream_options stream_options"))
    assert "stream_options" in asking().error().detail
    assert len(provider.requests) == 2


def test_described_request_is_the_one_that_is_sent(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking()
    request = ChatRequest("gpt-x", (ChatMessage("user", "Hi"),), {"top_p": 0.5})
    described = ask.client.describe(ask.endpoint, request)
    assert not provider.requests
    list(ask.client.stream(ask.endpoint, request, ask.cancel_token))
    sent = provider.last
    assert described["method"] == sent.method
    assert described["url"] == provider.origin + sent.path
    assert described["body"] == sent.json
    headers = described["headers"]
    assert isinstance(headers, dict)
    assert headers.pop("Authorization") == "Bearer ****"
    assert {name.lower(): value for name, value in headers.items()}.items() <= sent.headers.items()
    assert KEY not in json.dumps(described)


def test_models_are_listed(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking()
    assert ask.client.list_models(ask.endpoint) == [Model("model-a"), Model("model-b")]
    assert (provider.last.method, provider.last.path) == ("GET", "/v1/models")
    assert provider.last.headers["authorization"] == f"Bearer {KEY}"


def test_list_of_models_is_bounded_and_cleaned(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking()
    provider.script(
        json_answer({"data": [{"id": 7}, {}, "x", *({"id": f"m{number}"} for number in range(1500))]})
    )
    found = ask.client.list_models(ask.endpoint)
    assert (len(found), found[0]) == (1000, Model("x"))
    provider.script(json_answer({"data": [{"id": "x" * 9_000_000}]}))
    with pytest.raises(Failed, match="not a list"):
        ask.client.list_models(ask.endpoint)
    provider.script(error_answer(401, f"no {KEY}"))
    with pytest.raises(ProviderError) as refused:
        ask.client.list_models(ask.endpoint)
    assert refused.value.code == error_codes.KEY_REFUSED


def test_finish_is_the_last_event_also_with_tool_calls(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    provider.script(openai_stream("Hm", tool_calls=[("c", "f", '{"a":1}')], finish="tool_calls"))
    events = asking().events()
    assert finish_of(events) == "tool_calls"
    assert ToolCall("c", "f", '{"a":1}') in events
