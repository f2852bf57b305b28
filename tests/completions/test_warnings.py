"""Parameters of a completion that the provider can't do: what clients learn of it, and what is refused."""

from typing import Any

import pytest

from tests.completions.chat import Chat
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.provider import ScriptedProvider, anthropic_stream, error_answer, openai_stream


@pytest.fixture
def claude(eve: Api, provider: ScriptedProvider) -> Chat:
    return Chat.begin(eve, provider, api_format="anthropic")


def about(warnings: list[str]) -> list[str]:
    return [warning.partition(":")[0] for warning in warnings]


@pytest.mark.happy_path("create_completion")
def test_warnings_are_in_every_form_of_a_completion(claude: Chat) -> None:
    claude.script(anthropic_stream("Hello"))
    parameters = {"seed": 7, "temperature": 1.5, "logprobs": True}
    names = ["temperature", "logprobs", "seed"]
    preview = claude.ask(query="?dry_run=true", parameters=parameters).get_json()
    assert about(preview["warnings"]) == names
    assert (preview["request"]["body"]["temperature"], "seed" in preview["request"]["body"]) == (1, False)
    completion = claude.reply(parameters=parameters)
    assert completion["warnings"] == preview["warnings"]
    assert claude.get(completion["id"])["warnings"] == preview["warnings"]
    stream = claude.stream(parameters=parameters)
    stream.rest()
    for event in (stream.seen[0], stream.end):
        assert event.content["completion"]["warnings"] == preview["warnings"]
    replayed = claude.events(stream.id).rest()
    assert replayed[0].content["completion"]["warnings"] == preview["warnings"]


def test_what_the_provider_can_do_leads_to_no_warning(chat: Chat) -> None:
    parameters = {
        "top_k": 20,
        "chat_template_kwargs": {"enable_thinking": False},
        "extra": {"provider": {"sort": "price"}},
    }
    chat.script(openai_stream("Hello"))
    assert chat.reply(parameters=parameters)["warnings"] == []
    sent = chat.sent[-1].json
    assert (sent["top_k"], sent["chat_template_kwargs"], sent["provider"]) == (
        20,
        {"enable_thinking": False},
        {"sort": "price"},
    )


def test_a_parameter_that_the_server_refuses_is_left_out_with_a_warning(chat: Chat) -> None:
    chat.script(error_answer(400, "Unsupported parameter: 'top_k'"), openai_stream("Hello"))
    completion = chat.reply(parameters={"top_k": 20})
    assert (completion["status"], about(completion["warnings"])) == ("completed", ["top_k"])
    assert chat.get(completion["id"])["warnings"] == completion["warnings"]


def test_a_parameter_that_matters_is_refused_in_the_servers_words(chat: Chat) -> None:
    chat.script(error_answer(400, "Unsupported parameter: 'stop' is not supported"))
    refused = chat.ask(parameters={"stop": ["END"]})
    assert refused.status_code >= 400
    assert "'stop' is not supported" in refused.get_json()["detail"]


def test_thinking_and_format_of_claude(claude: Chat) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body = claude.ask(
        query="?dry_run=true",
        model="claude-opus-4-6",
        parameters={"reasoning_effort": "high", "response_format": wanted},
    ).get_json()["request"]["body"]
    assert body["max_tokens"] == 128_000
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"]["effort"] == "high"
    assert body["output_config"]["format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"n": 2}, "n: A completion has one reply."),
        ({"logit_bias": {str(n): 1 for n in range(1025)}}, "logit_bias: "),
        ({"extra": {"model": "x"}}, "extra: model is set by the service."),
        ({"extra": {"messages": []}}, "extra: messages is set by the service."),
        ({"extra": {"stream": False}}, "extra: stream is set by the service."),
        ({"extra": {"temperature": 1}}, "extra: temperature is a parameter of its own"),
        ({"extra": {"tools": "x"}}, "extra: tools: Must be at most 128 objects."),
        ({"extra": {"tools": [{}] * 129}}, "extra: tools: Must be at most 128 objects."),
        ({"extra": {"x": "y" * 300_000}}, "extra: Longer than"),
        ({"extra": []}, "extra: "),
        ({"logit_bias": {"a": 1}}, "logit_bias: "),
        ({"logit_bias": {"1": 101}}, "logit_bias: "),
        ({"logit_bias": {"1": True}}, "logit_bias: "),
        ({"cache": "yes"}, "cache: "),
        ({"cache": {"ttl": "2h"}}, "cache.ttl: "),
        ({"service_tier": "Flex!"}, "service_tier: "),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata: "),
        ({"modalities": ["smell"]}, "modalities"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools: "),
        ({"top_k": -2}, "top_k: "),
        ({"thinking_budget_tokens": -1}, "thinking_budget_tokens: "),
    ],
)
def test_what_no_provider_takes_is_refused(chat: Chat, parameters: dict[str, Any], complaint: str) -> None:
    problem = assert_problem(chat.ask(parameters=parameters), 400, "parameters")
    [message] = problem["errors"]["parameters"]
    assert message.startswith(complaint)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n": 1},
        {"tool_choice": "any", "tools": [{"type": "function", "function": {"name": "f"}}]},
        {"cache": False},
        {"cache": {"ttl": "1h", "key": "k"}},
        {"extra": {"tools": [{"type": "web_search"}], "extra_body": {"google": {}}}},
        {"reasoning_effort": "default"},
        {"reasoning_effort": "max"},
    ],
)
def test_what_some_provider_takes_is_taken(chat: Chat, parameters: dict[str, Any]) -> None:
    assert chat.ask(query="?dry_run=true", parameters=parameters).status_code == 200
