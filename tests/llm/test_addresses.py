"""Where requests go: URLs with and without a version, with a pasted path, of deployments."""

from dataclasses import replace

import pytest

from chat_api.llm.addresses import may_lack_version, operation_url, protocol_of_pasted
from chat_api.llm.errors import ProviderError
from chat_api.llm.events import Corrected
from chat_api.llm.request import Endpoint
from tests.support.asking import KEY, AskingMaker, text_of
from tests.support.provider import (
    Received,
    Reply,
    ScriptedProvider,
    error_answer,
    models_answer,
    openai_stream,
)

COMPLETIONS, MODELS = "/chat/completions", "/models"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://gateway.example/v1", "https://gateway.example/v1/chat/completions"),
        ("https://gateway.example/v1/", "https://gateway.example/v1/chat/completions"),
        ("https://gateway.example", "https://gateway.example/chat/completions"),
        ("https://gateway.example/v1/chat/completions", "https://gateway.example/v1/chat/completions"),
        ("https://gateway.example/v1/chat/completions/", "https://gateway.example/v1/chat/completions"),
        ("https://gateway.example/v1/Chat/Completions", "https://gateway.example/v1/chat/completions"),
        ("https://gateway.example/v1/completions", "https://gateway.example/v1/chat/completions"),
        ("https://gateway.example/v1/responses", "https://gateway.example/v1/chat/completions"),
        ("https://gateway.example/v1/chat/completions?a=b", "https://gateway.example/v1/chat/completions?a=b"),
        ("https://api.openai.com", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/chat/completions", "https://api.openai.com/v1/chat/completions"),
        ("https://api.deepseek.com", "https://api.deepseek.com/chat/completions"),
        ("https://api.deepseek.com/v1", "https://api.deepseek.com/v1/chat/completions"),
        ("https://api.perplexity.ai", "https://api.perplexity.ai/chat/completions"),
        ("https://api.groq.com", "https://api.groq.com/openai/v1/chat/completions"),
        ("https://openrouter.ai/", "https://openrouter.ai/api/v1/chat/completions"),
        ("https://generativelanguage.googleapis.com",
         "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434/v1/chat/completions"),
        ("http://127.0.0.1:1234/", "http://127.0.0.1:1234/v1/chat/completions"),
        ("https://x.services.ai.azure.com/models?api-version=1",
         "https://x.services.ai.azure.com/models/chat/completions?api-version=1"),
        ("https://x.openai.azure.com/openai/v1", "https://x.openai.azure.com/openai/v1/chat/completions"),
        ("https://x.openai.azure.com/openai/deployments/d?api-version=1",
         "https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=1"),
        ("https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=1",
         "https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=1"),
    ],
)  # fmt: skip
def test_url_of_completions(given: str, url: str) -> None:
    assert operation_url(Endpoint("openai", given, KEY), COMPLETIONS) == url


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com/v1/messages"),
        ("https://api.deepseek.com/anthropic", "https://api.deepseek.com/anthropic/v1/messages"),
        ("https://gateway.example/anthropic/v1/messages?beta=true",
         "https://gateway.example/anthropic/v1/messages?beta=true"),
        ("https://gateway.example/messages", "https://gateway.example/v1/messages"),
    ],
)  # fmt: skip
def test_url_of_messages(given: str, url: str) -> None:
    assert operation_url(Endpoint("anthropic", given, KEY), "/messages") == url
    listed = url.replace("/messages", "/models")
    assert operation_url(Endpoint("anthropic", given, KEY), MODELS) == listed


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://x.openai.azure.com/openai/deployments/d?api-version=1",
         "https://x.openai.azure.com/openai/models?api-version=1"),
        ("https://x.openai.azure.com/openai/v1/chat/completions", "https://x.openai.azure.com/openai/v1/models"),
        ("https://gateway.example/v1/chat/completions", "https://gateway.example/v1/models"),
    ],
)  # fmt: skip
def test_url_of_the_list_of_models(given: str, url: str) -> None:
    assert operation_url(Endpoint("openai", given, KEY), MODELS) == url


def test_protocol_of_a_pasted_url() -> None:
    assert protocol_of_pasted("https://gateway.example/v1/messages/") == "anthropic"
    assert protocol_of_pasted("https://gateway.example/v1/chat/completions") == "openai"
    assert protocol_of_pasted("https://gateway.example") == "openai"


@pytest.mark.parametrize(
    ("given", "is_uncertain"),
    [
        ("https://gateway.example", True),
        ("https://gateway.example/openai", True),
        ("https://gateway.example/v1", False),
        ("https://gateway.example/v1beta", False),
        ("https://gateway.example/api/paas/v4/", False),
        ("https://gateway.example/chat/completions", False),
        ("https://api.deepseek.com", False),
        ("https://x.openai.azure.com/openai/deployments/d?api-version=1", False),
    ],
)
def test_only_an_unknown_path_without_a_version_is_uncertain(given: str, is_uncertain: bool) -> None:
    endpoint = Endpoint("openai", given, KEY)
    assert may_lack_version(endpoint) is is_uncertain
    assert not may_lack_version(replace(endpoint, api_format="anthropic"))


def only_v1(request: Received) -> Reply:
    """A server whose API is at /v1 alone."""
    if not request.path.startswith("/v1/"):
        return error_answer(404, "Not Found")
    return models_answer("model-a") if request.method == "GET" else openai_stream("Hello")


def test_missing_version_is_found_and_remembered(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(only_v1)
    ask = asking()
    ask.endpoint = replace(ask.endpoint, api_endpoint=provider.origin)
    events = ask.events()
    assert text_of(events) == "Hello"
    assert isinstance(events[0], Corrected)
    assert events[0].of_server == {"version_in_path": True}
    assert [request.path for request in provider.requests] == ["/chat/completions", "/v1/chat/completions"]
    ask.endpoint = replace(ask.endpoint, options=ask.endpoint.options.merged(events[0].of_server))
    assert text_of(ask.events()) == "Hello"
    assert len(provider.requests) == 3
    assert [model.id for model in ask.client.list_models(ask.endpoint)] == ["model-a"]


@pytest.mark.parametrize("status", [404, 405])
def test_list_of_models_without_a_version(
    asking: AskingMaker, provider: ScriptedProvider, status: int
) -> None:
    provider.script(error_answer(status, "no"), models_answer("model-a"))
    ask = asking()
    ask.endpoint = replace(ask.endpoint, api_endpoint=provider.origin)
    assert [model.id for model in ask.client.list_models(ask.endpoint)] == ["model-a"]
    assert [request.path for request in provider.requests] == ["/models", "/v1/models"]


def test_a_model_that_is_not_there_is_not_sought_at_another_path(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    provider.script(error_answer(404, "The model 'm' does not exist"), openai_stream("Hello"))
    ask = asking()
    ask.endpoint = replace(ask.endpoint, api_endpoint=provider.origin)
    assert ask.error().code == "provider_model_not_found"
    assert len(provider.requests) == 1


def test_a_404_of_a_path_with_a_version_is_what_it_is(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    provider.script(error_answer(404, "model 'm' not found"))
    assert isinstance(asking().error(), ProviderError)
    assert len(provider.requests) == 1
