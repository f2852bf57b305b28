"""Anthropic's protocol: what is sent, and what is made of the answers."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from chat_api.egress.errors import Unreachable
from chat_api.llm import error_codes
from chat_api.llm.events import Event, Finish, ProviderState, ReasoningDelta, TextDelta, ToolCall, Usage
from chat_api.llm.request import ChatMessage, ChatRequest
from tests.support.asking import KEY, AskingMaker, finish_of, text_of
from tests.support.provider import (
    BREAK,
    CUT,
    Reply,
    ScriptedProvider,
    anthropic_answer,
    anthropic_delta,
    anthropic_event,
    anthropic_stream,
    sse,
)


def text_block(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def test_request_is_what_the_protocol_says(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking("anthropic")
    messages = (
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "Hello"),
        ChatMessage("developer", "And polite."),
        ChatMessage("user", "What is this?"),
        ChatMessage("assistant", ""),
        ChatMessage(
            "assistant",
            "Let me look.",
            tool_calls=(ToolCall("c1", "look", '{"at":1}'), ToolCall("c2", "look", "{broken")),
        ),
        ChatMessage("tool", "a cat", tool_call_id="c1"),
        ChatMessage("tool", "a dog", tool_call_id="c2"),
        ChatMessage("user", "So?"),
    )
    list(ask.send(*messages))
    sent = provider.last
    assert (sent.method, sent.path) == ("POST", "/v1/messages")
    assert (sent.headers["x-api-key"], sent.headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in sent.headers
    assert sent.json == {
        "model": "gpt-x",
        "stream": True,
        "max_tokens": 32_000,
        "system": "Be brief.\n\nAnd polite.",
        # a history with calls is refused without the tools that they call
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "none"},
        "messages": [
            {
                "role": "user",
                "content": [
                    text_block("Hello"),
                    text_block("What is this?"),
                ],
            },
            {
                "role": "assistant",
                "content": [
                    text_block("Let me look."),
                    {"type": "tool_use", "id": "c1", "name": "look", "input": {"at": 1}},
                    {"type": "tool_use", "id": "c2", "name": "look", "input": {"arguments": "{broken"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": [text_block("a cat")]},
                    {"type": "tool_result", "tool_use_id": "c2", "content": [text_block("a dog")]},
                    text_block("So?"),
                ],
            },
        ],
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"temperature": 0, "top_p": 0.5}, {"temperature": 0, "top_p": 0.5}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["A", " \n"]}, {"stop_sequences": ["A"]}),
        ({"presence_penalty": 1, "n": 2, "seed": 3, "response_format": {}}, {}),
    ],
)
def test_parameters_are_translated(
    asking: AskingMaker, provider: ScriptedProvider, given: dict[str, Any], sent: dict[str, Any]
) -> None:
    asking("anthropic").events(**given)
    body = provider.last.json
    expected = {"max_tokens": 32_000, **sent}
    assert {name: body[name] for name in body if name not in ("model", "messages", "stream")} == expected


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "look"}}, {"type": "tool", "name": "look"}),
    ],
)
def test_tools_are_translated(
    asking: AskingMaker, provider: ScriptedProvider, choice: Any, sent: dict[str, Any] | None
) -> None:
    shape = {"type": "object", "properties": {"at": {"type": "integer"}}}
    function = {"name": "look", "description": "Looks.", "parameters": shape}
    asking("anthropic").events(tools=[{"type": "function", "function": function}], tool_choice=choice)
    assert provider.last.json["tools"] == [{"name": "look", "description": "Looks.", "input_schema": shape}]
    assert provider.last.json.get("tool_choice") == sent


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        ("", "/v1/messages"),
        ("/v1", "/v1/messages"),
        ("/v1/?beta=true", "/v1/messages?beta=true"),
        ("/anthropic", "/anthropic/v1/messages"),
    ],
)
def test_path_is_appended_to_the_endpoints_own(
    asking: AskingMaker, provider: ScriptedProvider, endpoint: str, path: str
) -> None:
    ask = asking("anthropic")
    ask.endpoint = type(ask.endpoint)("anthropic", provider.origin + endpoint, KEY)
    ask.events()
    assert provider.last.path == path
    ask.client.list_models(ask.endpoint)
    sent = urlsplit(provider.last.path)
    query = dict(parse_qsl(sent.query))
    assert query.pop("limit") == "1000"  # its pages have twenty
    assert sent.path == path.partition("?")[0].replace("/messages", "/models")
    assert query == ({"beta": "true"} if "?" in path else {})


@pytest.mark.parametrize("arguments", ['{"a":' * 245 + "1" + "}" * 245, '{"a":NaN,"b":1' + "0" * 30 + "}"])
def test_arguments_that_cannot_be_sent_as_an_object_go_as_text(
    asking: AskingMaker, provider: ScriptedProvider, arguments: str
) -> None:
    provider.script(anthropic_stream("Hi"))
    ask = asking("anthropic")
    call = ChatMessage("assistant", "", (ToolCall("1", "f", arguments),))
    list(ask.send(ChatMessage("user", "Hi"), call, ChatMessage("tool", "x", tool_call_id="1")))
    assert provider.last.json["messages"][1]["content"][0]["input"] == {"arguments": arguments}


def test_reply_is_decoded(asking: AskingMaker, provider: ScriptedProvider) -> None:
    reply = anthropic_stream(
        "Hel", "lo", thinking=["h", "m"], tool_calls=[("c", "f", '{"a":1}')], stop_reason="tool_use"
    )
    provider.script(Reply(b"".join(step for step in reply.steps if isinstance(step, bytes))))
    assert asking("anthropic").events() == [
        Usage(16, None),
        ReasoningDelta("hm"),
        TextDelta("Hello"),
        ToolCall("c", "f", '{"a":1}'),
        ProviderState(
            {
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": ""},
                    {"type": "text", "text": "Hello"},
                    {"type": "tool_use", "id": "c", "name": "f"},
                ]
            }
        ),
        Usage(16, 3),
        Finish("tool_calls"),
    ]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
        (None, "stop"),
    ],
)
def test_stop_reasons(
    asking: AskingMaker, provider: ScriptedProvider, reason: str | None, expected: str
) -> None:
    provider.script(anthropic_stream("Hi", stop_reason=reason))
    assert finish_of(asking("anthropic").events()) == expected


def hi(*more: bytes) -> bytes:
    return b"".join([anthropic_delta(0, "text_delta", text="Hi"), *more])


SAYS_HI: list[Event] = [TextDelta("Hi"), Finish("stop")]
STOP = anthropic_event("message_delta", delta={"stop_reason": "end_turn"})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(hi(STOP), SAYS_HI, id="no-message-stop"),
        pytest.param(hi(anthropic_event("message_stop")), SAYS_HI, id="no-reason"),
        pytest.param(
            hi(anthropic_event("ping"), anthropic_event("later_invention", x=1), STOP), SAYS_HI, id="unknown"
        ),
        pytest.param(
            hi(
                anthropic_delta(0, "signature_delta", signature="x"),
                anthropic_delta(7, "input_json_delta", partial_json="{"),
                STOP,
            ),
            SAYS_HI,
            id="unknown-deltas",
        ),
        pytest.param(hi(b"data: {oops\n\n", sse([]), sse({"type": 5}), STOP), SAYS_HI, id="malformed"),
        pytest.param(
            hi(
                sse({"type": "content_block_delta", "delta": None}),
                sse({"type": "message_start", "message": 3}),
                STOP,
            ),
            SAYS_HI,
            id="wrong-types",
        ),
        pytest.param(
            anthropic_event(
                "message_start",
                message={
                    "usage": {
                        "input_tokens": 5,
                        "cache_read_input_tokens": 7,
                        "cache_creation_input_tokens": 1,
                    }
                },
            )
            + hi(STOP),
            [Usage(13, None, 7), TextDelta("Hi"), Usage(13, None, 7), Finish("stop")],
            id="cached-tokens",
        ),
        pytest.param(
            anthropic_event(
                "content_block_start",
                index=0,
                content_block={"type": "tool_use", "id": "c", "name": "f", "input": {}},
            )
            + STOP,
            [ToolCall("c", "f", "{}"), Finish("tool_calls")],
            id="call-without-arguments",
        ),
    ],
)
def test_decoding(
    asking: AskingMaker, provider: ScriptedProvider, body: bytes, expected: list[Event]
) -> None:
    provider.script(Reply(body))
    assert asking("anthropic").events() == expected


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, error_codes.OVERLOADED, "overloaded"),
        ({"type": "api_error", "message": "It broke"}, error_codes.FAILED, "It broke"),
        ({"type": "rate_limit_error", "message": "x"}, error_codes.RATE_LIMITED, "rate limit"),
        (
            {"type": "authentication_error", "message": f"bad {KEY}"},
            error_codes.KEY_REFUSED,
            "refused the key",
        ),
    ],
)
def test_error_in_the_stream_keeps_what_came(
    asking: AskingMaker,
    provider: ScriptedProvider,
    error: dict[str, str],
    code: str,
    detail: str,
) -> None:
    provider.script(Reply(hi(anthropic_event("error", error=error))))
    events, raised = asking("anthropic").until_error()
    assert (text_of(events), raised.code) == ("Hi", code)
    assert detail in raised.detail
    assert KEY not in raised.detail


@pytest.mark.parametrize("end", [[], [CUT], [BREAK]])
def test_stream_that_just_ends_is_no_reply(
    asking: AskingMaker, provider: ScriptedProvider, end: list[Any]
) -> None:
    provider.script(Reply(hi(), *end))
    events, error = asking("anthropic").until_error()
    assert (text_of(events), type(error)) == ("Hi", Unreachable)


def test_answer_in_one_piece_is_taken_too(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(anthropic_answer("Hello", stop_reason="max_tokens"))
    assert asking("anthropic").events() == [TextDelta("Hello"), Usage(16, 3), Finish("length")]


def test_described_request_hides_the_key(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking("anthropic")
    described = ask.client.describe(ask.endpoint, ChatRequest("m", (ChatMessage("user", "Hi"),)))
    headers = described["headers"]
    assert isinstance(headers, dict)
    assert headers["x-api-key"] == "****"
    assert KEY not in repr(described)
    assert not provider.requests
