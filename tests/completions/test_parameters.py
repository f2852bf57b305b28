"""The parameters of a completion: which ones are offered, and how they are sent."""

import json
from typing import Any

import pytest

from chat_api.database.columns import new_id
from tests.support.api import Api
from tests.support.bodies import Body, send_raw
from tests.support.problems import assert_problem
from tests.support.provider import ScriptedProvider

DEEP: Any = "x"
for _ in range(120):
    DEEP = [DEEP]
FUNCTION = {"type": "function", "function": {"name": "f"}}
STEERING = ("base_url", "api_key", "headers", "extra_headers", "extra_body", "extra_query", "proxy", "proxies",
            "timeout", "url", "model", "messages", "stream", "stream_options", "system", "Temperature",
            "__proto__")  # fmt: skip
BAD_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    # the caller can't steer the call, nor say what is the service's own to say
    **{name: ({name: "x"}, f"{name}: Unknown field.") for name in STEERING},
    "headers object": ({"headers": {"Authorization": "Bearer x"}}, "headers: Unknown field."),
    "nested": ({"parameters": {"temperature": 1}}, "parameters: Unknown field."),
    "temperature text": ({"temperature": "1"}, "temperature: "),
    "temperature flag": ({"temperature": True}, "temperature: "),
    "temperature list": ({"temperature": [1]}, "temperature: "),
    "temperature high": ({"temperature": 2.01}, "temperature: "),
    "temperature low": ({"temperature": -0.01}, "temperature: "),
    "temperature endless": ({"temperature": 10**399}, "temperature: "),
    "top_p": ({"top_p": 1.1}, "top_p: "),
    "max_tokens zero": ({"max_tokens": 0}, "max_tokens: "),
    "max_tokens half": ({"max_tokens": 1.5}, "max_tokens: "),
    "max_tokens text": ({"max_tokens": "10"}, "max_tokens: "),
    "max_tokens flag": ({"max_tokens": True}, "max_tokens: "),
    "max_tokens huge": ({"max_tokens": 10**30}, "max_tokens: "),
    "seed": ({"seed": 2**53 + 1}, "seed: "),
    "presence_penalty": ({"presence_penalty": 3}, "presence_penalty: "),
    "frequency_penalty": ({"frequency_penalty": -3}, "frequency_penalty: "),
    "reasoning_effort": ({"reasoning_effort": "most"}, "reasoning_effort: "),
    "stop empty": ({"stop": []}, "stop: "),
    "stop many": ({"stop": ["x"] * 5}, "stop: "),
    "stop numbers": ({"stop": [1]}, "stop: "),
    "stop of nothing": ({"stop": ""}, "stop: "),
    "stop long": ({"stop": "x" * 257}, "stop: "),
    "stop object": ({"stop": {"x": "y"}}, "stop: "),
    "response_format text": ({"response_format": "json"}, "response_format: "),
    "response_format list": ({"response_format": [{}]}, "response_format: "),
    "response_format deep": ({"response_format": {"x": DEEP}}, "response_format: "),
    "response_format large": ({"response_format": {"x": "y" * 300_000}}, "response_format: "),
    "response_format wide": ({"response_format": {"x": "€" * 90_000}}, "response_format: "),
    "response_format endless number": ({"response_format": {"x": [10**399]}}, "response_format: "),
    "tools object": ({"tools": FUNCTION}, "tools: "),
    "tools empty": ({"tools": []}, "tools: "),
    "tools many": ({"tools": [FUNCTION] * 129}, "tools: "),
    "tools null": ({"tools": [None]}, "tools.0: "),
    "tool of no function": ({"tools": [FUNCTION, {"type": "function"}]}, "tools.1.function: "),
    "tool of another type": ({"tools": [FUNCTION | {"type": "web_search"}]}, "tools.0.type: "),
    "tool with more": ({"tools": [FUNCTION | {"url": "http://x"}]}, "tools.0.url: Unknown field."),
    "function with more": (
        {"tools": [{"type": "function", "function": {"name": "f", "url": "x"}}]},
        "tools.0.function.url: Unknown field.",
    ),
    "function without name": ({"tools": [{"type": "function", "function": {}}]}, "tools.0.function.name: "),
    "function of another name": (
        {"tools": [{"type": "function", "function": {"name": "f\n"}}]},
        "tools.0.function.name: ",
    ),
    "deep arguments": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": DEEP}}}]},
        "tools.0.function.parameters: ",
    ),
    "strict": (
        {"tools": [{"type": "function", "function": {"name": "f", "strict": 1}}]},
        "tools.0.function.strict: ",
    ),
    "tool_choice word": ({"tool_choice": "all"}, "tool_choice: "),
    "tool_choice list": ({"tool_choice": ["auto"]}, "tool_choice: "),
    "tool_choice of nothing": ({"tool_choice": {"type": "function"}}, "tool_choice.function: "),
    "tool_choice name": (
        {"tool_choice": {"type": "function", "function": {"name": "f f"}}},
        "tool_choice.function.name: ",
    ),
    "parallel_tool_calls": ({"parallel_tool_calls": 1}, "parallel_tool_calls: "),
}
GOOD_PARAMETERS: list[dict[str, Any]] = [
    {},
    dict.fromkeys(["temperature", "stop", "tools", "tool_choice", "cache", "extra", "max_tokens", "n"]),
    {"temperature": 0, "top_p": 1.0, "max_tokens": 1, "seed": -7, "presence_penalty": -2, "frequency_penalty": 2},
    {"temperature": 2, "max_tokens": 90.0, "reasoning_effort": "none", "stop": "\n"},
    {"stop": ["a", "b", "c", "d"], "parallel_tool_calls": False, "tool_choice": "required"},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"maximum": 2**63 - 1}}}},
    {"tools": [FUNCTION] * 128, "tool_choice": FUNCTION},
    {"tools": [FUNCTION | {"function": {"name": "ab-c_1", "description": "€", "parameters": {}, "strict": True}}]},
]  # fmt: skip


def completion_with(body_for: Body, parameters: dict[str, Any]) -> bytes:
    return json.dumps(body_for("/chat/completions") | {"parameters": parameters}).encode()


@pytest.mark.parametrize(("parameters", "complaint"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_parameter_that_is_not_offered_is_refused_naming_it(
    user: Api,
    provider: ScriptedProvider,
    body_for: Body,
    parameters: dict[str, Any],
    complaint: str,
) -> None:
    calls = len(provider.requests)
    raw = completion_with(body_for, parameters)
    for path in ("/chat/completions", "/chat/completions?dry_run=true"):
        [message] = assert_problem(send_raw(user, path, raw), 400, "parameters")["errors"]["parameters"]
        assert message.startswith(complaint)
    assert len(provider.requests) == calls


def test_all_that_is_wrong_inside_a_field_is_said_at_once(user: Api, body_for: Body) -> None:
    raw = completion_with(body_for, {"temperature": "x", "base_url": "http://x", "tools": [{}]})
    problem = assert_problem(send_raw(user, "/chat/completions", raw), 400, "parameters")
    complaints = problem["errors"]["parameters"]
    assert sorted(complaint.partition(":")[0] for complaint in complaints) == [
        "base_url", "temperature", "tools.0.function", "tools.0.type",
    ]  # fmt: skip


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize(
    "parameters", ['{"temperature": @}', '{"seed": @}', '{"response_format": {"x": [@]}}']
)
def test_number_that_is_none_is_refused_wherever_it_stands(
    user: Api, body_for: Body, parameters: str, constant: str
) -> None:
    raw = completion_with(body_for, {}).replace(b'"parameters": {}', b'"parameters": ' + parameters.encode())
    refused = send_raw(user, "/chat/completions?dry_run=true", raw.replace(b"@", constant.encode()))
    assert_problem(refused, 400, *(["parameters"] if "e999" in constant else []))


@pytest.mark.parametrize("depth", [120, 260, 900, 5000])
def test_depth_is_refused_before_anything_falls_over_it(user: Api, body_for: Body, depth: int) -> None:
    nested = b'{"x":' * depth + b"1" + b"}" * depth
    for name in (b"response_format", b"tool_choice", b"stop", b"tools", b"unknown"):
        parameters = b'"parameters": {"%b": %b}' % (name, nested if name != b"tools" else b"[%b]" % nested)
        raw = completion_with(body_for, {}).replace(b'"parameters": {}', parameters)
        for headers in ({}, {"Idempotency-Key": new_id()}):
            assert send_raw(user, "/chat/completions", raw, headers=headers).status_code == 400


@pytest.mark.parametrize("parameters", GOOD_PARAMETERS, ids=range(len(GOOD_PARAMETERS)))
def test_parameters_are_sent_as_they_came(user: Api, body_for: Body, parameters: dict[str, Any]) -> None:
    body = body_for("/chat/completions") | {"parameters": parameters}
    preview = user.post("/chat/completions?dry_run=true", body, headers={"Idempotency-Key": new_id()})
    assert preview.status_code == 200, preview.get_data(as_text=True)
    sent = preview.get_json()["request"]["body"]
    if isinstance(parameters.get("stop"), str):
        sent["stop"] = sent["stop"][0]
    given = {name: value for name, value in parameters.items() if value is not None}
    assert given == {name: sent.get(name) for name in given}


def test_number_beyond_64_bits_is_sent_as_most_readers_take_it(user: Api, body_for: Body) -> None:
    raw = completion_with(body_for, {"response_format": {"x": [2**63 - 1, 2**80, -(2**80)]}})
    sent = send_raw(user, "/chat/completions?dry_run=true", raw).get_json()["request"]["body"]
    assert sent["response_format"] == {"x": [2**63 - 1, float(2**80), -float(2**80)]}
