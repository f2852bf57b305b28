"""Servers without keys: configs without one, and providers that need no config."""

from typing import Any

import pytest

from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.provider import ScriptedProvider

CONFIGS = "/chat/user-llm-configs"


def complete(user: Api, provider_id: str, model: str) -> Any:
    body = {"conversation_id": user.conversation()["id"], "provider_id": provider_id, "content": "Hi"}
    return user.post("/chat/completions", {**body, "model": model})


@pytest.mark.parametrize("given", [{}, {"api_key": None}])
@pytest.mark.parametrize("api_format", ["openai", "anthropic"])
def test_config_without_a_key(
    ada: Api, provider: ScriptedProvider, given: dict[str, None], api_format: str
) -> None:
    made = ada.provider(api_endpoint=provider.url, api_format=api_format)
    config = ada.made(
        CONFIGS, {"user_id": ada.user_id, "provider_id": made["id"], "default_model": ada.user_id, **given}
    )
    assert config["api_key"] is None
    path = f"{CONFIGS}/{ada.user_id}/{made['id']}"
    assert ada.get(path).get_json() == config
    assert complete(ada, made["id"], ada.user_id).status_code == 201
    [received] = provider.of_model(ada.user_id)
    assert not {"authorization", "x-api-key", "api-key"} & set(received.headers)
    assert ada.put(path, {"api_key": "any"}).get_json()["api_key"] == "****"
    assert ada.put(path, {}).get_json()["api_key"] is None


@pytest.mark.parametrize(
    "fields",
    [
        {"catalog": "openai"},
        {"catalog": "anthropic"},
        {"api_endpoint": "https://api.groq.com/openai/v1"},
        {"catalog": "mistral", "api_endpoint": "https://gateway.example/v1"},
    ],
)
def test_known_vendor_wants_a_key(ada: Api, fields: dict[str, str]) -> None:
    made = ada.made("/chat/llm-providers", {"name": "P", **fields})
    body = {"user_id": ada.user_id, "provider_id": made["id"]}
    assert_problem(ada.post(CONFIGS, body), 400, "api_key")
    ada.config(made["id"])
    assert_problem(ada.put(f"{CONFIGS}/{ada.user_id}/{made['id']}", {"default_model": "m"}), 400, "api_key")
    assert ada.get(f"{CONFIGS}/{ada.user_id}/{made['id']}").get_json()["api_key"] == "****cdef"


def test_key_in_a_header_of_the_provider_will_do(ada: Api) -> None:
    made = ada.made(
        "/chat/llm-providers", {"catalog": "openai", "headers": {"Authorization": "Bearer shared"}}
    )
    assert ada.made(CONFIGS, {"user_id": ada.user_id, "provider_id": made["id"]})["api_key"] is None


@pytest.mark.parametrize("fields", [{"catalog": "ollama"}, {"catalog": "llamacpp"}, {"auth": "none"}])
def test_provider_that_needs_no_key_needs_no_config(
    ada: Api, admin: Api, provider: ScriptedProvider, fields: dict[str, str]
) -> None:
    shared = admin.provider(api_endpoint=provider.url, shared=True, **fields)
    assert complete(ada, shared["id"], ada.user_id).status_code == 201
    [received] = provider.of_model(ada.user_id)
    assert "authorization" not in received.headers
    assert ada.get(f"/chat/llm-providers/{shared['id']}/models").status_code == 200
    without_model = {
        "conversation_id": ada.conversation()["id"],
        "provider_id": shared["id"],
        "content": "Hi",
    }
    assert_problem(ada.post("/chat/completions", without_model), 400, "model")


def test_any_other_provider_needs_a_config(ada: Api, provider: ScriptedProvider) -> None:
    made = ada.provider(api_endpoint=provider.url)
    assert complete(ada, made["id"], ada.user_id).status_code == 404
    assert ada.get(f"/chat/llm-providers/{made['id']}/models").status_code == 404
    assert not provider.of_model(ada.user_id)


def test_a_key_is_used_where_none_is_needed(ada: Api, provider: ScriptedProvider) -> None:
    """A local server may have keys all the same."""
    made = ada.provider(api_endpoint=provider.url, catalog="vllm")
    ada.config(made["id"], "sk-local-0123456789")
    complete(ada, made["id"], ada.user_id)
    [received] = provider.of_model(ada.user_id)
    assert received.headers["authorization"] == "Bearer sk-local-0123456789"
