"""Lists of models in the shapes that servers send, with what they say of each."""

import json
from dataclasses import replace
from typing import Any

import pytest

from chat_api.egress.errors import Failed
from chat_api.llm import model_lists
from chat_api.llm.model_lists import Model, ModelList
from tests.support.asking import AskingMaker
from tests.support.provider import Received, Reply, ScriptedProvider, json_answer

URL = "https://gateway.example/v1/models"


def listed(answer: Any, api_format: str = "openai") -> list[Model]:
    found = ModelList(URL, api_format)
    found.add_page(answer)
    return found.models


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [{"id": "a"}, {"id": "b"}]},
        {"object": "list", "data": [{"id": "a", "object": "model"}, {"id": "b", "object": "model"}]},
        [{"id": "a"}, {"id": "b"}],
        ["a", "b"],
        {"data": ["a", "b"]},
        {"models": [{"id": "a"}, {"id": "b"}]},
        {"models": ["a", "b"]},
        {"models": [{"name": "models/a"}, {"name": "models/b"}]},
        {"models": [{"name": "a", "model": "a:latest"}, {"name": "b"}]},
        {"models": {"a": {"context_length": None}, "b": {}}},
        {"data": {"models": [{"id": "a"}, {"id": "b"}]}},
        {"result": [{"name": "a"}, {"name": "b"}], "success": True},
        {"data": [{"id": "models/a"}, {"id": "models/b"}, {"id": "a"}]},
        {"data": [{"slug": "a"}, None, 7, {"id": ""}, {"id": 5}, {"id": "b\n"}, {"id": "b"}]},
        {"error": None, "data": [{"id": "a"}, {"id": "b"}]},
    ],
)
def test_shape_of_a_list(answer: Any) -> None:
    assert [model.id for model in listed(answer)] == ["a", "b"]


@pytest.mark.parametrize(
    "answer", [None, "x", 5, {}, {"error": {"message": "no"}}, {"data": "x"}, {"data": {}}]
)
def test_what_is_no_list(answer: Any) -> None:
    with pytest.raises(Failed, match="not a list of models"):
        listed(answer)


def test_empty_list() -> None:
    assert listed({"data": []}) == []
    assert listed([]) == []


SAID = {
    "OpenRouter": (
        {"id": "x/y", "name": "X: Y", "context_length": 200000, "architecture": {"input_modalities": ["text", "image"]},
         "top_provider": {"max_completion_tokens": 64000}, "supported_parameters": ["tools", "top_p", "reasoning"]},
        Model("x/y", "X: Y", 200000, 64000, ("images", "reasoning", "tools"), frozenset(("audio",))),
    ),
    "Mistral": (
        {"id": "m", "max_context_length": 32768,
         "capabilities": {"completion_chat": True, "function_calling": True, "vision": False}},
        Model("m", None, 32768, None, ("tools",), frozenset(("images",))),
    ),
    "Groq": (
        {"id": "m", "context_window": 131072, "max_completion_tokens": 32768},
        Model("m", None, 131072, 32768),
    ),
    "vLLM": ({"id": "m", "max_model_len": 8192}, Model("m", None, 8192)),
    "llama.cpp": (
        {"id": "m.gguf", "meta": {"n_vocab": 1, "n_ctx_train": 4096}},
        Model("m.gguf", None, 4096),
    ),
    "Gemini": (
        {"name": "models/g", "displayName": "Gemini G", "inputTokenLimit": 1048576, "outputTokenLimit": 65536,
         "thinking": True},
        Model("g", "Gemini G", 1048576, 65536, ("reasoning",)),
    ),
    "Anthropic": (
        {"type": "model", "id": "c", "display_name": "Claude C", "max_input_tokens": 200000, "max_tokens": 64000,
         "capabilities": {"image_input": {"supported": True}, "thinking": {"supported": False}}},
        Model("c", "Claude C", 200000, 64000, ("images",), frozenset(("reasoning",))),
    ),
    "Fireworks": (
        {"id": "f", "context_length": 131072, "supports_image_input": False, "supports_tools": True},
        Model("f", None, 131072, None, ("tools",), frozenset(("images",))),
    ),
    "LM Studio": ({"id": "l", "type": "vlm", "max_context_length": 4096}, Model("l", None, 4096, None, ("images",))),
    "GitHub": (
        {"id": "o", "name": "O", "limits": {"max_input_tokens": 1000, "max_output_tokens": 500},
         "capabilities": ["streaming", "tool-calling"], "supported_input_modalities": ["text", "image", "audio"]},
        Model("o", "O", 1000, 500, ("audio", "images", "tools")),
    ),
    "nonsense": (
        {"id": "n", "context_length": -1, "max_tokens": "many", "name": 5, "capabilities": "all", "meta": []},
        Model("n"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("server", SAID)
def test_what_a_server_says_of_a_model(server: str) -> None:
    item, model = SAID[server]
    assert listed([item]) == [model]


def test_answer_has_only_what_was_said() -> None:
    assert Model("m").to_json() == {"id": "m"}
    assert Model("m", "M", 1, 2, ("tools",)).to_json() == {
        "id": "m", "name": "M", "context_window": 1, "max_output_tokens": 2, "abilities": ("tools",),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "following"),
    [
        ({"has_more": True, "last_id": "m1"}, URL + "?after_id=m1"),
        ({"has_more": False, "last_id": "m1"}, None),
        ({"last_id": "m1"}, None),
        ({"nextPageToken": "t/1"}, URL + "?pageToken=t%2F1"),
        ({"next_page_token": "t"}, URL + "?page_token=t"),
        ({"next_cursor": "c"}, URL + "?cursor=c"),
        ({"next": "https://gateway.example/v1/models?page=2"}, URL + "?page=2"),
        ({"next": "/v1/models?page=2"}, URL + "?page=2"),
        ({"links": {"next": "?page=2"}}, URL + "?page=2"),
        ({"next": "https://evil.example/v1/models?page=2"}, None),
        ({"next": "http://gateway.example/v1/models?page=2"}, None),
        ({"next": "//evil.example/models"}, None),
        ({"next": "https://user@gateway.example/v1/models"}, None),
        ({"next": URL}, None),
        ({"next_cursor": ""}, None),
        ({"next_cursor": "c" * 2000}, None),
        ({"next": None}, None),
    ],
)
def test_where_the_next_page_is(more: dict[str, Any], following: str | None) -> None:
    """At the same origin, or nowhere: the key would go there."""
    found = ModelList(URL, "openai")
    found.add_page({"data": [{"id": "m1"}], **more})
    assert found.next_url == following


def test_pages_end(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ModelList(URL, "openai")
    pages = 0
    while found.next_url is not None:
        pages += 1
        found.add_page({"data": [{"id": f"m{pages}"}], "next_cursor": f"c{pages}"})
    assert pages == model_lists.MAX_PAGES
    assert len(found.models) == pages


def test_all_pages_are_read(asking: AskingMaker, provider: ScriptedProvider) -> None:
    def answer(request: Received) -> Reply:
        is_first = "after_id" not in request.path
        return json_answer({"data": [{"id": "a" if is_first else "b"}], "has_more": is_first, "last_id": "a"})

    provider.script(answer)
    ask = asking("anthropic")
    assert [model.id for model in ask.client.list_models(ask.endpoint)] == ["a", "b"]
    assert [request.path for request in provider.requests] == [
        "/v1/models?limit=1000",
        "/v1/models?limit=1000&after_id=a",
    ]
    assert all("x-api-key" in request.headers for request in provider.requests)


def test_long_lists_are_read_and_longer_ones_refused(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking()
    models = [{"id": f"vendor/model-{number}", "description": "x" * 10_000} for number in range(600)]
    assert len(json.dumps(models)) > 6_000_000
    provider.script(json_answer({"data": models}))
    assert len(ask.client.list_models(ask.endpoint)) == 600
    provider.script(json_answer({"data": models, "next_cursor": "2"}))
    with pytest.raises(Failed, match="not a list of models"):  # 8 MiB are for all pages together
        ask.client.list_models(ask.endpoint)


def test_header_of_the_key_is_that_of_the_vendor(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking()
    for auth, name, value in (
        ("api-key", "api-key", ask.endpoint.api_key),
        ("bearer", "authorization", f"Bearer {ask.endpoint.api_key}"),
        ("X-Custom", "x-custom", ask.endpoint.api_key),
    ):
        ask.client.list_models(replace(ask.endpoint, auth=auth))
        headers = provider.last.headers
        assert headers[name] == value
        assert sum(ask.endpoint.api_key in text for text in headers.values()) == 1
    ask.client.list_models(replace(ask.endpoint, auth="none"))
    assert ask.endpoint.api_key not in str(provider.last.headers)
