"""Complaints of servers: what they change, what of that may be remembered, and how many requests they cost."""

import json
from dataclasses import replace
from typing import Any

import pytest

from chat_api.egress.errors import EgressError
from chat_api.llm.complaints import Scope, correction_for
from chat_api.llm.events import Corrected, Event
from chat_api.llm.options import RequestOptions
from chat_api.llm.protocols import protocol_of
from chat_api.llm.request import ChatMessage, ChatRequest, Endpoint
from tests.support.asking import AskingMaker, text_of
from tests.support.provider import (
    ScriptedProvider,
    anthropic_answer,
    anthropic_stream,
    json_answer,
    openai_answer,
    openai_stream,
)


def openai_error(message: str, **fields: Any) -> str:
    return json.dumps(
        {"error": {"message": message, "type": "invalid_request_error", "param": None, **fields}}
    )


PYDANTIC = json.dumps(
    {
        "detail": [
            {
                "type": "extra_forbidden",
                "loc": ["body", "stream_options"],
                "msg": "Extra inputs are not permitted",
            }
        ]
    }
)
NO_STREAM = "Your organization must be verified to stream this model. Please go to the settings."
# complaint, parameters, changes, scope
UNDERSTOOD: dict[str, tuple[str, dict[str, Any], dict[str, Any], Scope]] = {
    "limit": (
        openai_error("Unsupported parameter: 'max_tokens' is not supported with this model. "
                     "Use 'max_completion_tokens' instead.", param="max_tokens"),
        {"max_tokens": 5}, {"limit_field": "max_completion_tokens"}, Scope.SERVER,
    ),
    "other limit": (
        openai_error("Unrecognized request argument supplied: max_completion_tokens"),
        {"max_completion_tokens": 5}, {"limit_field": "max_tokens"}, Scope.SERVER,
    ),
    "stream_options": (
        openai_error("Unknown parameter: 'stream_options'."), {}, {"stream_options": False}, Scope.SERVER,
    ),
    "stream_options by param": (
        openai_error("This is not supported.", param="stream_options"), {}, {"stream_options": False}, Scope.SERVER,
    ),
    "stream_options of pydantic": (PYDANTIC, {}, {"stream_options": False}, Scope.SERVER),
    "stream_options of Bedrock": (
        '{"message": "#: extraneous key [include_usage] is not permitted"}',
        {}, {"stream_options": False}, Scope.SERVER,
    ),
    "stream_options of MiMo": (
        '{"error": {"message": "Param Incorrect"}}', {}, {"stream_options": False}, Scope.CALLER,
    ),
    "stream of an organization": (
        openai_error(NO_STREAM, param="stream", code="unsupported_value"), {}, {"stream": False}, Scope.CALLER,
    ),
    "stream of a model": (
        openai_error("Unsupported value: 'stream' does not support true with this model."),
        {}, {"stream": False}, Scope.CALLER,
    ),
    "stream in other words": (
        openai_error("Streaming is not supported for this model."), {}, {"stream": False}, Scope.CALLER,
    ),
    "temperature": (
        openai_error("Unsupported value: 'temperature' does not support 0.2 with this model. "
                     "Only the default (1) value is supported."),
        {"temperature": 0.2}, {"without": ("temperature",)}, Scope.CALLER,
    ),
    "temperature of Claude": (
        openai_error("`temperature` is deprecated for this model."),
        {"temperature": 0.2}, {"without": ("temperature",)}, Scope.CALLER,
    ),
    "temperature beside an effort": (
        openai_error("Unsupported parameter: 'temperature' is not supported with this model."),
        {"temperature": 0.2, "reasoning_effort": "high"}, {"without": ("temperature",)}, Scope.REQUEST,
    ),
    "temperature beside extra": (
        openai_error("Unsupported parameter: 'temperature' is not supported with this model."),
        {"temperature": 0.2, "extra": {"a": 1}}, {"without": ("temperature",)}, Scope.REQUEST,
    ),
    "stream beside extra": (
        openai_error("Streaming is not supported in background mode."), {"extra": {"background": True}},
        {"stream": False}, Scope.REQUEST,
    ),
    "both": (
        openai_error("`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
        {"temperature": 0.2, "top_p": 0.5}, {"without": ("top_p",)}, Scope.REQUEST,
    ),
    "two": (
        json.dumps({"detail": [{"loc": ["body", name], "msg": "Extra inputs are not permitted"}
                               for name in ("seed", "user")]}),
        {"seed": 1, "user": "u"}, {"without": ("seed", "user")}, Scope.CALLER,
    ),
    "name of Gemini": (
        '[{"error": {"message": "Invalid JSON payload received. Unknown name \\"seed\\": Cannot find field."}}]',
        {"seed": 1}, {"without": ("seed",)}, Scope.CALLER,
    ),
    "prefill of Claude": (
        openai_error("This model does not support assistant message prefill. "
                     "The conversation must end with a user message."),
        {}, {"prefill": False}, Scope.SERVER,
    ),
    "prefill of Mistral": (
        '{"message": "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"}',
        {}, {"prefill": False}, Scope.SERVER,
    ),
    "user after tool": (
        '{"message": "Unexpected role \'user\' after role \'tool\'"}', {}, {"user_after_tool": False}, Scope.SERVER,
    ),
    "ids of Mistral": (
        '{"message": "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9."}',
        {}, {"call_ids": "mistral"}, Scope.SERVER,
    ),
    "reasoning of DeepSeek": (
        openai_error("The `reasoning_content` in the thinking mode must be passed back to the API."),
        {}, {"reasoning_content": True}, Scope.SERVER,
    ),
    "reasoning of Moonshot": (
        openai_error("thinking is enabled but reasoning_content is missing in assistant tool call message at index 2"),
        {}, {"reasoning_content": True}, Scope.SERVER,
    ),
    "signatures of Gemini": (
        openai_error("Function call is missing a thought_signature in functionCall parts. This is required."),
        {}, {"thought_signatures": True}, Scope.SERVER,
    ),
    "blank": (
        openai_error("messages: text content blocks must contain non-whitespace text"),
        {}, {"blank_text": False}, Scope.SERVER,
    ),
    "fields of messages": (
        openai_error("'messages.2' : for 'role:assistant' the following must be satisfied"
                     "[('messages.2' : property 'reasoning_content' is unsupported)]"),
        {}, {"state": False, "reasoning_content": False}, Scope.CALLER,
    ),
    "a signature": (
        openai_error("messages.1.content.0: Invalid `signature` in `thinking` block"),
        {}, {"state": False}, Scope.REQUEST,
    ),
    "effort that the model does not know at all": (
        openai_error("Unrecognized request argument supplied: reasoning_effort"),
        {"reasoning_effort": "low"}, {"without": ("reasoning_effort",)}, Scope.CALLER,
    ),
}  # fmt: skip
NOT_UNDERSTOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "model": (openai_error("The model `x` does not exist or you do not have access to it."), {"temperature": 1}),
    "a value of effort": (
        openai_error("Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. "
                     "Supported values are: 'low', 'medium', and 'high'."),
        {"reasoning_effort": "minimal"},
    ),
    "a limit that the caller set": (
        openai_error("max_tokens is too large: 100000. This model supports at most 16384 completion tokens."),
        {"max_tokens": 100_000},
    ),
    "a number out of range": (openai_error("temperature must be between 0 and 1"), {"temperature": 2}),
    "stop": (openai_error("Unsupported parameter: 'stop' is not supported with this model."), {"stop": ["x"]}),
    "format": (openai_error("response_format is not supported"), {"response_format": {"type": "json_object"}}),
    "tools": (openai_error("Unsupported parameter: tools is not supported with this model."), {"tools": []}),
    "nothing": ("", {"temperature": 1}),
    "HTML": ("<html>Bad request</html>", {}),
}  # fmt: skip


def refused(complaint: str, parameters: dict[str, Any], api_format: str = "openai", model: str = "m") -> Any:
    """What is made of a complaint about a request with these parameters."""
    endpoint = Endpoint(api_format, "https://x.example/v1", "k")
    request = ChatRequest(model, (ChatMessage("user", "Hi"),), parameters)
    body = protocol_of(endpoint).request_body(request, endpoint)
    return correction_for(complaint, body.fields, request, endpoint.options)


@pytest.mark.parametrize(("complaint", "given", "changes", "scope"), UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_complaint_is_understood(
    complaint: str, given: dict[str, Any], changes: dict[str, Any], scope: Scope
) -> None:
    correction = refused(complaint, given)
    assert (correction.changes, correction.scope) == (changes, scope)


@pytest.mark.parametrize(("complaint", "given"), NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD)
def test_other_complaints_change_nothing(complaint: str, given: dict[str, Any]) -> None:
    assert refused(complaint, given) is None


@pytest.mark.parametrize(
    ("complaint", "given", "changes", "scope"),
    [
        (
            "max_tokens: 32000 > 8192, which is the maximum allowed number of output tokens for m",
            {},
            {"max_output": 8192},
            Scope.SERVER,
        ),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
         {}, {"max_output": 8192}, Scope.SERVER),
        (
            "input length and `max_tokens` exceed context limit: 199000 + 32000 > 200000, decrease input length",
            {},
            {"max_output": 1000},
            Scope.REQUEST,
        ),
        (
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive"',
            {"reasoning_effort": "high"},
            {"thinking": "adaptive"},
            Scope.SERVER,
        ),
        ("max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens",
         {"max_tokens": 9000}, None, None),
    ],
)  # fmt: skip
def test_complaint_of_anthropics_protocol(
    complaint: str, given: dict[str, Any], changes: dict[str, Any] | None, scope: Scope | None
) -> None:
    correction = refused(json.dumps({"type": "error", "error": {"message": complaint}}), given, "anthropic")
    found = (correction.changes, correction.scope) if correction else (None, None)
    assert found == (changes, scope)


def test_options_are_found_again_in_what_was_learned() -> None:
    learned = json.loads(json.dumps({"without": ("a",), "stream": False, "learned_at": 7}))
    options = RequestOptions().merged(learned)
    assert (options.without, options.stream) == (("a",), False)


ALTERNATE = (
    "After the (optional) system message(s), user message(s) should alternate with assistant message(s)."
)


def test_roles_alternate_where_they_did_not() -> None:
    endpoint = Endpoint("openai", "https://x.example/v1", "k", options=RequestOptions(alternation=False))
    request = ChatRequest("m", (ChatMessage("user", "a"), ChatMessage("user", "b")))
    correction = correction_for(ALTERNATE.lower(), {}, request, endpoint.options)
    assert correction is not None
    assert correction.changes == {"alternation": True}
    assert refused(ALTERNATE, {}) is None  # they do


def test_a_history_that_is_refused_is_sent_in_another_form(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    refusal = json_answer({"error": {"message": "must end with a user message"}}, status=400)
    provider.script(refusal, openai_stream("Once upon a time"))
    events = [
        event
        for read in asking().send(ChatMessage("user", "Hi"), ChatMessage("assistant", "Once"))
        for event in read
    ]
    assert text_of(events) == "Once upon a time"
    assert [message["role"] for message in provider.last.json["messages"]] == ["user", "assistant", "user"]
    [corrected] = [event for event in events if isinstance(event, Corrected)]
    assert corrected.of_server == {"prefill": False}


# -- round trips --------------------------------------------------------------------------------------------


def corrected_of(events: list[Event]) -> Corrected:
    [found] = [event for event in events if isinstance(event, Corrected)]
    assert events[0] is found
    return found


def refusal(message: str, status: int = 400) -> Any:
    return json_answer(json.loads(openai_error(message)), status=status)


@pytest.mark.parametrize("api_format", ["openai", "anthropic"])
def test_a_reply_without_a_stream_has_events_too(
    asking: AskingMaker, provider: ScriptedProvider, api_format: str
) -> None:
    whole = openai_answer("Hello") if api_format == "openai" else anthropic_answer("Hello")
    provider.script(refusal(NO_STREAM), whole)
    events = asking(api_format).events()
    assert text_of(events) == "Hello"
    assert corrected_of(events).of_caller == {"stream": False}
    first, second = provider.requests
    assert (first.json["stream"], first.headers["accept"]) == (True, "text/event-stream")
    assert (second.json["stream"], second.headers["accept"]) == (False, "application/json")
    assert "stream_options" not in second.json


def test_what_is_known_costs_no_refused_request(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking()
    provider.script(refusal("Unknown parameter: stream_options"), openai_stream("Hello"))
    learned = corrected_of(ask.events()).of_server
    assert len(provider.requests) == 2
    ask.endpoint = replace(ask.endpoint, options=ask.endpoint.options.merged(learned))
    events = ask.events()
    assert len(provider.requests) == 3
    assert not any(isinstance(event, Corrected) for event in events)


def test_developers_become_system_where_the_role_is_refused(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    provider.script(
        refusal("Unexpected role 'developer'. Allowed: system, user, assistant, tool"), openai_stream("Hello")
    )
    ask = asking()
    ask.endpoint = replace(ask.endpoint, options=ask.endpoint.options.merged({"developer_role": True}))
    messages = (ChatMessage("developer", "Be brief."), ChatMessage("user", "Hi"))
    corrected = corrected_of([event for read in ask.send(*messages) for event in read])
    roles = [[message["role"] for message in request.json["messages"]] for request in provider.requests]
    assert roles == [["developer", "user"], ["system", "user"]]
    assert corrected.of_server == {"developer_role": False}


def test_several_complaints_are_followed_one_by_one(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(
        refusal("Use 'max_completion_tokens' instead."),
        refusal("Unknown parameter: stream_options", 422),
        refusal("Unsupported parameter: 'temperature'"),
        openai_stream("Hello"),
    )
    corrected = corrected_of(asking().events(max_tokens=5, temperature=0.2))
    sent = provider.last.json
    assert sent["max_completion_tokens"] == 5
    assert not {"max_tokens", "stream_options", "temperature"} & set(sent)
    assert corrected.of_server == {"limit_field": "max_completion_tokens", "stream_options": False}
    assert corrected.of_caller == {"without": ("temperature",)}
    assert [warning.partition(":")[0] for warning in corrected.warnings] == ["temperature"]


def test_what_one_request_leaves_out_is_not_learned_with_what_all_do(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    provider.script(
        refusal("temperature and top_p cannot both be specified"),
        refusal("Unsupported parameter: 'seed'"),
        openai_stream("Hello"),
    )
    corrected = corrected_of(asking().events(temperature=0.2, top_p=0.5, seed=1))
    assert not {"top_p", "seed"} & set(provider.last.json)
    assert corrected.of_caller == {"without": ("seed",)}
    assert corrected.of_server == {}


def test_all_that_a_model_refuses_is_learned(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(
        refusal("Unsupported parameter: 'seed'"),
        refusal("Unsupported parameter: 'user'"),
        openai_stream("Hello"),
    )
    corrected = corrected_of(asking().events(seed=1, user="u"))
    assert corrected.of_caller == {"without": ("seed", "user")}


@pytest.mark.parametrize(
    ("messages", "most"),
    [
        pytest.param(["Unsupported parameter: 'temperature'"], 2, id="repeated"),
        pytest.param(
            ["Use max_completion_tokens", "Unknown argument max_completion_tokens"] * 9, 2, id="to-and-fro"
        ),
        pytest.param(
            [f"Unsupported parameter: 'temperature' ({n})" for n in range(9)], 2, id="in-other-words"
        ),
        pytest.param(["Param Incorrect"], 2, id="unnamed"),
        pytest.param(["Bad request"], 1, id="not-understood"),
    ],
)
def test_a_server_that_is_never_content_is_not_asked_for_ever(
    asking: AskingMaker, provider: ScriptedProvider, messages: list[str], most: int
) -> None:
    provider.script(*(refusal(message) for message in messages))
    with pytest.raises(EgressError):
        asking().events(max_tokens=5, temperature=0.2)
    assert len(provider.requests) == most


def test_the_default_limit_is_lowered_to_what_the_model_can(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    provider.script(
        refusal("max_tokens: 32000 > 8192, which is the maximum allowed"), anthropic_stream("Hello")
    )
    assert corrected_of(asking("anthropic").events()).of_server == {"max_output": 8192}
    assert [request.json["max_tokens"] for request in provider.requests] == [32_000, 8192]
