"""POST /chat/llm-providers/{id}/check: whether address, key and model work, in one answer."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from chat_api.completions import registry
from chat_api.llm import provider_check
from chat_api.server.slots import stream_slots
from tests.support.api import Api
from tests.support.provider import (
    STALL,
    Received,
    Reply,
    ScriptedProvider,
    anthropic_stream,
    error_answer,
    json_answer,
    models_answer,
    openai_stream,
)

KEY = "sk-proj-Zq8vT3nW1xYb5LmR7c"


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    """A provider of the test's own."""
    with ScriptedProvider() as scripted:
        yield scripted


def add(user: Api, url: str, *, key: str | None = KEY, model: str | None = "m", **fields: Any) -> str:
    provider_id: str = user.provider(api_endpoint=url, **fields)["id"]
    if key is not None:
        body = {"user_id": user.user_id, "provider_id": provider_id, "api_key": key, "default_model": model}
        user.made("/chat/user-llm-configs", body)
    return provider_id


def check(user: Api, provider_id: str, body: Any = None) -> dict[str, Any]:
    response = user.post(f"/chat/llm-providers/{provider_id}/check", body)
    assert response.status_code == 200, response.get_data(as_text=True)
    assert KEY not in response.get_data(as_text=True)
    found: dict[str, Any] = response.get_json()
    assert set(found) == {"ok", "address", "key", "model", "model_id", "url"}
    assert found["ok"] is all(found[step]["ok"] for step in ("address", "key", "model"))
    return found


def outcome(found: dict[str, Any]) -> list[bool | None]:
    return [found[step]["ok"] for step in ("address", "key", "model")]


def problem(found: dict[str, Any]) -> tuple[str, str, str]:
    """The step with a problem, its code and its detail; exactly one has one."""
    [found_at] = [step for step in ("address", "key", "model") if found[step]["problem"]]
    return found_at, found[found_at]["problem"]["code"], found[found_at]["problem"]["detail"]


@pytest.mark.happy_path("check_provider")
def test_what_works(ada: Api, provider: ScriptedProvider) -> None:
    found = check(ada, add(ada, provider.url))
    works = {"ok": True, "problem": None}
    assert found == {
        "ok": True,
        "address": works,
        "key": works,
        "model": works,
        "model_id": "m",
        "url": f"{provider.url}/chat/completions",
    }
    [request] = provider.requests
    assert request.json["max_tokens"] <= 64
    assert len(request.body) < 400


def test_the_model_may_be_named(ada: Api, provider: ScriptedProvider) -> None:
    provider_id = add(ada, provider.url, model=None)
    assert check(ada, provider_id, {"model": "other"})["model_id"] == "other"
    assert provider.last.model == "other"
    for body in ({}, {"model": None}):
        assert check(ada, provider_id, body)["model_id"] is None
    refused: Any
    for refused in ({"model": ""}, {"model": 5}, {"unknown": 1}, []):
        assert ada.post(f"/chat/llm-providers/{provider_id}/check", refused).status_code == 400


def test_only_the_beginning_of_the_reply_is_waited_for(ada: Api, provider: ScriptedProvider) -> None:
    provider.script(openai_stream("OK", STALL))
    assert check(ada, add(ada, provider.url))["ok"]
    assert provider.last.closed.wait(5)


def test_anthropics_protocol(ada: Api, provider: ScriptedProvider) -> None:
    provider.script(anthropic_stream("OK"))
    assert check(ada, add(ada, provider.url, api_format="anthropic"))["ok"]


def test_nothing_listens_there(ada: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = check(ada, add(ada, f"http://127.0.0.1:{port}/v1"))
    assert outcome(found) == [False, None, None]
    assert problem(found)[:2] == ("address", "provider_unreachable")


def test_address_that_may_not_be_called(ada: Api) -> None:
    found = check(ada, add(ada, "http://does-not-resolve.invalid/v1"))
    assert outcome(found) == [False, None, None]


def test_refused_key(ada: Api, provider: ScriptedProvider) -> None:
    provider.script(error_answer(401, f"Incorrect API key provided: {KEY}"))
    found = check(ada, add(ada, provider.url))
    assert outcome(found) == [True, False, None]
    assert problem(found)[:2] == ("key", "provider_refused_key")


def test_missing_key(ada: Api, provider: ScriptedProvider) -> None:
    provider.script(error_answer(401, "You didn't provide an API key"))
    found = check(ada, add(ada, provider.url, key=None), {"model": "m"})
    assert outcome(found) == [True, False, None]
    assert problem(found) == ("key", "provider_refused_key", provider_check.NO_KEY)
    assert "authorization" not in provider.last.headers


def test_unknown_model(ada: Api, provider: ScriptedProvider) -> None:
    error = {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}
    provider.script(json_answer(error, status=404))
    found = check(ada, add(ada, provider.url))
    assert outcome(found) == [True, True, False]
    assert problem(found)[:2] == ("model", "provider_model_not_found")


def test_throttled_model_may_work_later(ada: Api, provider: ScriptedProvider) -> None:
    provider.script(error_answer(429, "slow down"))
    found = check(ada, add(ada, provider.url))
    assert (found["ok"], outcome(found)) == (False, [True, True, None])
    assert problem(found)[:2] == ("model", "provider_rate_limited")


@pytest.mark.parametrize("lists_models", [True, False])
def test_answer_of_an_unknown_kind_may_come_from_another_server(
    ada: Api, provider: ScriptedProvider, lists_models: bool
) -> None:
    """Where the list of models can be read, address and key are right."""

    def answer(request: Received) -> Reply:
        if request.method == "GET" and lists_models:
            return models_answer("a")
        return Reply(b"<html>Welcome</html>", content_type="text/html", framing="length")

    provider.script(answer)
    found = check(ada, add(ada, provider.url))
    assert outcome(found) == ([True, True, False] if lists_models else [False, None, None])


def test_missing_version_is_found(ada: Api, provider: ScriptedProvider) -> None:
    provider.script(error_answer(404, "Not Found"), openai_stream("OK"))
    assert check(ada, add(ada, provider.origin))["ok"]


def test_without_a_model_the_list_says_whether_the_key_is_looked_at(
    ada: Api, provider: ScriptedProvider
) -> None:
    provider_id = add(ada, provider.url, model=None)
    found = check(ada, provider_id)
    assert outcome(found) == [True, None, None]  # this server lists its models to everybody
    assert problem(found)[:2] == ("model", "no_model")

    def wants_key(request: Received) -> Reply:
        return models_answer("a") if "authorization" in request.headers else error_answer(401, "no key")

    provider.script(wants_key)
    assert outcome(check(ada, provider_id)) == [True, True, None]
    provider.script(error_answer(401, "no"))
    assert outcome(check(ada, provider_id)) == [True, False, None]
    provider.script(error_answer(429, "slow down"))
    assert outcome(check(ada, provider_id)) == [True, None, None]
    provider.script(json_answer({"hello": "world"}))
    assert outcome(check(ada, provider_id)) == [False, None, None]


def test_silence_is_bounded(ada: Api, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "CHECK_S", 0.3)
    provider.script(Reply(STALL))
    found = check(ada, add(ada, provider.url))
    assert outcome(found) == [False, None, None]
    assert problem(found)[:2] == ("address", "provider_timeout")


def test_checks_are_limited_as_other_calls_are(ada: Api, provider: ScriptedProvider) -> None:
    provider_id = add(ada, provider.url)
    with ada.app.test_request_context():
        slots = [stream_slots().take(ada.user_id) for _ in range(ada.app.config["MAX_STREAMS_PER_USER"])]
    try:
        refused = ada.post(f"/chat/llm-providers/{provider_id}/check")
        assert refused.status_code == 429
        assert "Retry-After" in refused.headers
    finally:
        for slot in slots:
            slot.release()
    assert not provider.requests
    assert check(ada, provider_id)["ok"]


def test_checks_leave_nothing(ada: Api, provider: ScriptedProvider) -> None:
    check(ada, add(ada, provider.url))
    assert ada.get("/chat/conversations").get_json() == []
    with ada.app.app_context():
        assert not [run for run in registry.run_registry().running if run.completion.user_id == ada.user_id]


def test_who_may_not_see_a_provider_can_not_check_it(
    ada: Api, bob: Api, stranger: Api, provider: ScriptedProvider
) -> None:
    provider_id = add(ada, provider.url)
    assert bob.post(f"/chat/llm-providers/{provider_id}/check").status_code == 404
    assert stranger.post(f"/chat/llm-providers/{provider_id}/check").status_code == 401
    assert not provider.requests
