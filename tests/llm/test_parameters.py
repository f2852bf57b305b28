"""Parameters in the words of each protocol, vendor and model; what can't be said leads to a warning."""

import re
from dataclasses import replace
from typing import Any

import pytest

from chat_api.completions.parameters import CompletionParametersSchema
from chat_api.llm.anthropic.models import UNKNOWN, traits_of
from tests.support.parameters import (
    CLAUDE,
    SAMPLES,
    TARGETS,
    TOOLS,
    Target,
    parameters_table,
    reasoning_table,
)
from tests.test_house_rules import ROOT

BY_LABEL = {target.label: target for target in TARGETS}
OLDER, V46, V5, V55 = CLAUDE


def test_there_is_a_sample_of_each_parameter() -> None:
    assert set(SAMPLES) == set(CompletionParametersSchema().fields) - {"n"}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.label)
@pytest.mark.parametrize("name", SAMPLES)
def test_no_parameter_is_dropped_without_a_word(target: Target, name: str) -> None:
    changed, warnings = target.effect(name)
    caches_itself = target.endpoint.options.dialect not in ("", "perplexity", "together")
    assert changed or warnings or (name == "cache" and caches_itself)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.label)
def test_all_parameters_at_once_are_sent_or_said(target: Target) -> None:
    given = {name: value for name, (value, _) in SAMPLES.items() if name != "max_completion_tokens"}
    body, warnings = target.body(**given)
    assert (body["model"], body["stream"]) == (target.model, True)
    assert all(re.match(r"\w+: \S", warning) for warning in warnings)
    assert {warning.partition(":")[0] for warning in warnings} <= set(SAMPLES)
    assert len(warnings) == len(set(warnings))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.label)
@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
def test_every_effort_has_an_effect_everywhere(target: Target, effort: str) -> None:
    changed, _ = target.effect("reasoning_effort", effort)
    assert changed


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.label)
def test_default_effort_is_that_of_the_model(target: Target) -> None:
    changed, warnings = target.effect("reasoning_effort", "default")
    assert not warnings
    assert changed == ({"reasoning_effort": "default"} if target.label == "Groq" else {})


@pytest.mark.parametrize(
    ("label", "given", "sent", "about"),
    [
        pytest.param("Claude up to 4.5", {"temperature": 1.5}, {"temperature": 1}, ["temperature"], id="fitted"),
        pytest.param(
            "Claude up to 4.5", {"temperature": 0.2, "top_p": 0.5}, {"temperature": 0.2}, ["top_p"], id="either"
        ),
        pytest.param("Mistral", {"temperature": 2}, {"temperature": 1.5}, ["temperature"], id="fitted-mistral"),
        pytest.param(
            "Claude up to 4.5",
            {"reasoning_effort": "high", "temperature": 0.2},
            {"thinking": {"type": "enabled", "budget_tokens": 24_000}},
            ["temperature"],
            id="thinks",
        ),
        pytest.param(
            "Claude up to 4.5",
            {"reasoning_effort": "high", "max_tokens": 3000},
            {"max_tokens": 3000, "thinking": {"type": "enabled", "budget_tokens": 2999}},
            [],
            id="effort-within-limit",
        ),
        pytest.param(
            "Claude up to 4.5",
            {"thinking_budget_tokens": 5000, "max_tokens": 3000},
            {"max_tokens": 3000, "thinking": {"type": "enabled", "budget_tokens": 2999}},
            ["thinking_budget_tokens"],
            id="budget-within-limit",
        ),
        pytest.param(
            "Claude up to 4.5",
            {"thinking_budget_tokens": 10, "max_tokens": 1000},
            {"max_tokens": 1000},
            ["thinking_budget_tokens"],
            id="no-room-for-thoughts",
        ),
        pytest.param(
            "Claude up to 4.5",
            {"reasoning_effort": "low", "tools": TOOLS, "tool_choice": "required"},
            {"tool_choice": {"type": "any"}},
            ["reasoning_effort"],
            id="forced-tool",
        ),
        pytest.param(
            "Claude up to 4.5",
            {"tools": TOOLS, "parallel_tool_calls": False, "tool_choice": TOOLS[0]},
            {"tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True}},
            [],
            id="one-tool",
        ),
        pytest.param(
            "Claude up to 4.5",
            {"tools": TOOLS, "parallel_tool_calls": False, "tool_choice": "none"},
            {"tool_choice": {"type": "none"}},
            [],
            id="no-tool",
        ),
        pytest.param(
            "Claude 4.6",
            {"thinking_budget_tokens": 8000},
            {"thinking": {"type": "enabled", "budget_tokens": 8000}},
            [],
            id="budget-4.6",
        ),
        pytest.param(
            "vLLM",
            {"reasoning_effort": "none", "chat_template_kwargs": {"a": 1, "thinking": "x"}},
            {"chat_template_kwargs": {"enable_thinking": False, "thinking": "x", "a": 1}},
            [],
            id="own-words-win",
        ),
        pytest.param("Z.ai", {"tools": TOOLS, "tool_choice": "none"}, {}, [], id="none-without-a-word-for-it"),
        pytest.param(
            "any other server", {"max_completion_tokens": 9}, {"max_completion_tokens": 9}, [], id="as-given"
        ),
        pytest.param(
            "Mistral", {"max_tokens": 7, "max_completion_tokens": 5}, {"max_tokens": 5}, ["max_completion_tokens"],
            id="two-limits",
        ),
        pytest.param(
            "OpenRouter", {"reasoning_effort": "none", "thinking_budget_tokens": 2000},
            {"reasoning": {"max_tokens": 2000}}, ["reasoning_effort"], id="two-ways-to-think",
        ),
        pytest.param("OpenAI, Azure", {"cache": {"ttl": "24h", "key": "k"}},
                     {"prompt_cache_key": "k", "prompt_cache_retention": "24h"}, [], id="cache-key"),
    ],
)  # fmt: skip
def test_parameters_fit_each_other(
    label: str, given: dict[str, Any], sent: dict[str, Any], about: list[str]
) -> None:
    body, warnings = BY_LABEL[label].body(**given)
    before, _ = BY_LABEL[label].body()
    tools = {"tools": body["tools"]} if "tools" in body and "tools" in given else {}
    assert {name: value for name, value in body.items() if before.get(name) != value} == {**sent, **tools}
    assert [warning.partition(":")[0] for warning in warnings] == about


def test_only_some_tools_may_be_chosen_everywhere() -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOLS[1]]}}
    given = {"tools": TOOLS, "tool_choice": choice}
    body, _ = BY_LABEL["OpenAI, Azure"].body(**given)
    assert (body["tools"], body["tool_choice"]) == (TOOLS, choice)
    body, _ = BY_LABEL["Mistral"].body(**given)
    assert (body["tools"], body["tool_choice"]) == (TOOLS[1:], "any")
    body, _ = OLDER.body(**given)
    assert [tool["name"] for tool in body["tools"]] == ["g"]
    assert body["tool_choice"] == {"type": "any"}


def test_a_reply_of_a_given_form() -> None:
    schema = {"type": "object", "properties": {"at": {"type": "array", "items": {"type": "object"}}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body, warnings = V5.body(response_format=wanted)
    closed = {"type": "object", "additionalProperties": False}
    assert body["output_config"]["format"]["schema"] == {
        **closed,
        "properties": {"at": {"type": "array", "items": closed}},
    }
    assert not warnings
    for target, given in ((V5, {"type": "json_object"}), (_older(), wanted)):
        body, [warning] = target.body(response_format=given)
        assert "output_config" not in body
        assert body["system"].startswith("Be brief.\n\nAnswer with one JSON object")
        assert warning.startswith("response_format: ")
    assert '"array"' in body["system"]


def _older() -> Target:
    return Target("older", "claude-3-5-haiku-20241022", OLDER.endpoint)


def test_the_ends_of_a_prompt_are_marked_for_the_cache() -> None:
    body, _ = OLDER.body(cache={"ttl": "1h"}, tools=TOOLS)
    mark = {"type": "ephemeral", "ttl": "1h"}
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": mark}]
    assert body["messages"][-1]["content"][-1]["cache_control"] == mark
    assert [tool.get("cache_control") for tool in body["tools"]] == [None, mark]


@pytest.mark.parametrize("top_k", [-1, 0])
def test_of_all_tokens(top_k: int) -> None:
    """As servers of local models write it; Claude takes a number from 1 only."""
    for target, expected in ((OLDER, None), (BY_LABEL["vLLM"], top_k)):
        body, warnings = target.body(top_k=top_k)
        assert (body.get("top_k"), list(warnings)) == (expected, [])


@pytest.mark.parametrize("target", [OLDER, BY_LABEL["any other server"]], ids=["anthropic", "openai"])
def test_extra_fields_come_last_but_not_instead_of_our_own(target: Target) -> None:
    extra = {"field": {"a": 1}, "tools": [{"type": "web_search"}], "thinking": {"type": "disabled"},
             "model": "x", "messages": [], "stream": False, "stream_options": {}}  # fmt: skip
    body, warnings = target.body(tools=TOOLS, extra=extra, temperature=1)
    assert (body["model"], body["stream"]) == (target.model, True)
    assert body["messages"]
    assert body.get("stream_options") in (None, {"include_usage": True})
    assert (body["field"], body["thinking"]) == ({"a": 1}, {"type": "disabled"})
    assert len(body["tools"]) == 3
    assert body["tools"][-1] == {"type": "web_search"}
    assert not warnings


@pytest.mark.parametrize("target", [OLDER, BY_LABEL["vLLM"]], ids=["anthropic", "openai"])
def test_a_providers_own_fields_are_below_the_callers(target: Target) -> None:
    own = {
        "temperature": 0.9,
        "top_p": 0.5,
        "thinking": {"a": 1},
        "model": "x",
        "messages": [],
        "stream": False,
    }
    endpoint = type(target.endpoint)(
        target.endpoint.api_format, "https://x.example", "k", extra_body=own, options=target.endpoint.options
    )
    body, _ = Target("", target.model, endpoint).body(temperature=0.1, extra={"thinking": {"b": 2}})
    assert (body["temperature"], body["top_p"], body["thinking"]) == (0.1, 0.5, {"a": 1, "b": 2})
    assert (body["model"], body["stream"], len(body["messages"]) > 0) == (target.model, True, True)


@pytest.mark.parametrize(
    ("model", "max_tokens"),
    [
        ("claude-3-opus-20240229", 4096),
        ("claude-3-5-sonnet-20241022", 8192),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", 64_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-opus-4-1@20250805", 32_000),
        ("claude-sonnet-4-20250514", 64_000),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", 64_000),
        ("anthropic/claude-opus-4.6", 128_000),
        ("claude-sonnet-5", 128_000),
        ("claude-opus-5-5", 128_000),
        ("claude-fable-5-1", 128_000),
        ("claude-opus-7-20280101", 128_000),
        ("deepseek-v4-pro", 64_000),
        ("m", UNKNOWN.max_tokens),
    ],
)
def test_the_limit_of_a_reply_is_what_the_model_can(model: str, max_tokens: int) -> None:
    assert traits_of(model).max_tokens == max_tokens
    body, _ = Target("", model, OLDER.endpoint).body()
    assert body["max_tokens"] == max_tokens
    assert UNKNOWN.max_tokens > 4096


@pytest.mark.parametrize(
    ("model", "is_sent"),
    [
        ("o3-mini", False),
        ("gpt-5", False),
        ("gpt-5-mini", False),
        ("gpt-5-chat-latest", True),
        ("gpt-4o", True),
    ],
)
def test_reasoning_models_get_no_sampling(model: str, is_sent: bool) -> None:
    body, warnings = Target("", model, BY_LABEL["OpenAI, Azure"].endpoint).body(
        temperature=0.5, top_p=0.5, seed=1
    )
    assert ("temperature" in body, "top_p" in body, body["seed"]) == (is_sent, is_sent, 1)
    assert len(warnings) == (0 if is_sent else 2)


@pytest.mark.parametrize("table", [reasoning_table, parameters_table])
def test_the_documents_tables_are_what_is_sent(table: Any) -> None:
    text = (ROOT / "docs" / "providers.md").read_text()
    assert table() in text, f"Put this into docs/providers.md:\n{table()}"


@pytest.mark.parametrize("of_provider", [False, True], ids=["request", "provider"])
def test_choice_of_a_tool_goes_with_tools_of_extra_fields(of_provider: bool) -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    endpoint = OLDER.endpoint
    extra = {"extra": {"tools": tools}}
    if of_provider:
        endpoint, extra = replace(endpoint, extra_body={"tools": tools}), {}
    target = Target("", OLDER.model, endpoint)
    body, _ = target.body(tool_choice="required", parallel_tool_calls=False, **extra)
    assert body["tools"] == tools
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert "tool_choice" not in Target("", OLDER.model, OLDER.endpoint).body(tool_choice="required")[0]
