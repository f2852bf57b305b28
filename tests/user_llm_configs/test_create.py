"""POST /chat/user-llm-configs: what is stored and returned, and what is refused."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from chat_api.database.session import db
from chat_api.llm_providers import service as providers
from chat_api.user_llm_configs import service as configs
from tests.support.api import Api
from tests.support.bodies import Body
from tests.support.problems import assert_problem


@pytest.mark.happy_path("create_config", "get_config")
def test_a_created_config_is_returned_whole_but_for_its_key(ada: Api, bob: Api) -> None:
    body = {
        "user_id": ada.user_id,
        "provider_id": ada.provider()["id"],
        "api_key": "sk-example-0123456789",
        "default_model": "m",
        "context_window": 1000,
    }
    response = ada.post("/chat/user-llm-configs", body)
    assert response.status_code == 201
    config = response.get_json()
    path = response.headers["Location"]
    assert path == f"/chat/user-llm-configs/{ada.user_id}/{body['provider_id']}"
    times = {"created_at": config["created_at"], "updated_at": config["created_at"]}
    assert config == {**body, **times, "id": config["id"], "api_key": "****6789"}
    found = ada.get(path)
    assert (found.status_code, found.get_json()) == (200, config)
    assert bob.get(path).status_code == 404
    assert ada.post("/chat/user-llm-configs", body).status_code == 409


@pytest.mark.parametrize("key", ["sk 1", "sk-1\n", " sk-1", "schlüssel", "\x7f", "sk\t1"])
def test_api_key_that_fits_no_header_is_refused(user: Api, body_for: Body, key: str) -> None:
    problem = assert_problem(
        user.post("/chat/user-llm-configs", body_for("/chat/user-llm-configs") | {"api_key": key}),
        400,
        "api_key",
    )
    assert key not in json.dumps(problem, ensure_ascii=False)


def test_a_key_can_be_bound_to_the_endpoint_that_its_user_saw(ada: Api) -> None:
    provider = ada.provider()
    path = f"/chat/user-llm-configs/{ada.user_id}/{provider['id']}"
    body = {"api_key": "sk-example-0123456789", "api_endpoint": provider["api_endpoint"]}
    named = {"user_id": ada.user_id, "provider_id": provider["id"]}
    moved = {"api_endpoint": "https://elsewhere.example/v1"}
    assert ada.patch(f"/chat/llm-providers/{provider['id']}", moved).status_code == 200
    for refused in (ada.post("/chat/user-llm-configs", {**body, **named}), ada.put(path, body)):
        assert (refused.status_code, refused.get_json()["code"]) == (409, "endpoint_changed")
        assert body["api_key"] not in refused.get_data(as_text=True)
    assert ada.get(path).status_code == 404
    created = ada.post("/chat/user-llm-configs", {**body, **named, **moved})
    assert created.status_code == 201
    assert "api_endpoint" not in created.get_json()
    assert ada.put(path, {**body, **moved}).status_code == 200
    assert ada.put(path, body).status_code == 409


@pytest.mark.parametrize("method", ["post", "put"])
@pytest.mark.parametrize("backend", ["postgres"], indirect=True, scope="session")
def test_a_provider_that_moves_at_the_same_time_gets_no_key(app: Flask, ada: Api, method: str) -> None:
    """The provider's new endpoint is not committed yet when the key arrives. On SQLite one waits for the other."""
    provider = ada.provider()
    named = {"user_id": ada.user_id, "provider_id": provider["id"]}
    body = {"api_key": "sk-example-0123456789", "api_endpoint": provider["api_endpoint"]}
    path = f"/chat/user-llm-configs/{ada.user_id}/{provider['id']}"
    if method == "put":
        ada.config(provider["id"])
    with ThreadPoolExecutor(1) as thread, app.app_context():
        locked = providers.lock_provider(user_id=ada.user_id, provider_id=provider["id"], is_admin=False)
        providers.update_provider(provider=locked, changes={"api_endpoint": "https://elsewhere.example/v1"})
        if method == "post":
            request = thread.submit(ada.post, "/chat/user-llm-configs", {**body, **named})
        else:
            request = thread.submit(ada.put, path, body)
        time.sleep(0.5)
        assert not request.done()
        configs.delete_configs_of(provider=locked)
        db.session.commit()
        assert request.result().status_code == 409
    assert ada.get(path).status_code == 404
