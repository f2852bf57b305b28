"""POST /chat/user-llm-configs: what is stored and returned, and what is refused."""

import json

import pytest

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
