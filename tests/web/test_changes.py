"""The bodies of every PATCH and PUT."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from chat_api.web.echo import field_name
from chat_api.web.request_body import SMALL_BODY_BYTES
from config import Config
from tests.support.api import Api
from tests.support.bad_json import NOT_AS_JSON, NOT_JSON, EndlessBody
from tests.support.bodies import JSON
from tests.support.problems import assert_problem

# every PATCH and PUT but that of the account, and the valid values of its body
CHANGES: dict[tuple[str, str], dict[str, Any]] = {
    ("PATCH", "/chat/conversations/{conversation}"): {
        "title": "T", "archived": False, "pinned": True, "active_leaf_id": None,
    },
    ("PATCH", "/chat/llm-providers/{provider}"): {
        "name": "P", "api_endpoint": "https://p.example/v1", "api_format": "openai", "context_window": 1000,
    },
    ("PUT", "/chat/user-llm-configs/{user}/{provider}"): {
        "api_key": "sk-1", "default_model": "m", "context_window": 1000,
    },
}  # fmt: skip
FLAGS = ("archived", "pinned")
each_change = pytest.mark.parametrize(("method", "path"), CHANGES)


@pytest.fixture
def change(user: Api, own_ids: dict[str, str]) -> Callable[..., TestResponse]:
    path_ids = {
        **own_ids,
        "conversation": user.conversation()["id"],
        "user": user.user_id,
    }  # others read the shared one

    def send(method: str, path: str, **options: Any) -> TestResponse:
        return user.request(method, path.format(**path_ids), **options)

    return send


def test_every_change_is_tried_here(stranger: Api) -> None:
    paths = stranger.get("/openapi.json").get_json()["paths"]
    changing = {
        (method.upper(), path.replace("_id}", "}"))
        for path, item in paths.items()
        for method in {"put", "patch"} & set(item)
        if path != "/auth/me"
    }
    assert changing == set(CHANGES)


@each_change
def test_change_of_the_right_shape_is_made(
    change: Callable[..., TestResponse], method: str, path: str
) -> None:
    assert change(method, path, json=CHANGES[method, path]).status_code in (200, 201)


@each_change
def test_change_with_a_wrong_value_is_refused(
    change: Callable[..., TestResponse], method: str, path: str
) -> None:
    body = CHANGES[method, path]
    for field in body:
        for value in (
            True,
            0,
            -1,
            1.5,
            10**100,
            "",
            "x" * 5000,
            "\x00",
            "\ud800",
            [],
            ["x"],
            {},
            {"x": "y"},
        ):
            if not (value is True and field in FLAGS):
                raw = json.dumps(body | {field: value})
                assert_problem(change(method, path, data=raw, content_type=JSON), 400, field)


@pytest.mark.parametrize(
    ("path", "field"),
    [("/chat/conversations/{conversation}", "title"), ("/chat/llm-providers/{provider}", "api_endpoint")],
)
def test_null_of_a_field_that_has_to_have_a_value_changes_nothing(
    change: Callable[..., TestResponse], path: str, field: str
) -> None:
    before = change("GET", path).get_json()
    assert_problem(change("PATCH", path, json={field: None}), 400)
    other = {"pinned": True} if "conversation" in path else {"context_window": 5000}
    after = change("PATCH", path, json={field: None, **other}).get_json()
    assert after == {**before, **other}


@each_change
def test_change_of_a_field_that_there_is_not_is_refused(
    change: Callable[..., TestResponse], method: str, path: str
) -> None:
    for name in ("id", "user_id", "provider_id", "owner_id", "created_at", "shared", "surprise", ""):
        response = change(method, path, json={**CHANGES[method, path], name: "x"})
        assert_problem(response, 400, field_name(name))


@each_change
def test_change_that_is_no_json_object_with_fields_is_refused(
    change: Callable[..., TestResponse], method: str, path: str
) -> None:
    for raw in NOT_JSON.values():
        assert_problem(change(method, path, data=raw, content_type=JSON), 400)
    if method == "PATCH":
        assert_problem(change(method, path, json={}), 400)
    raw = json.dumps(CHANGES[method, path]).encode()
    for content_type, headers in NOT_AS_JSON.values():
        refused = change(method, path, data=raw, content_type=content_type, headers=headers)
        assert_problem(refused, 415)
    has_metadata = path.startswith("/chat/conversations/")  # which may be larger than a small body
    huge = EndlessBody().with_length((Config.MAX_BODY_BYTES if has_metadata else SMALL_BODY_BYTES) + 1)
    assert_problem(change(method, path, content_type=JSON, environ_overrides=huge), 413)


@each_change
def test_change_of_a_malformed_id_is_404(user: Api, own_ids: dict[str, str], method: str, path: str) -> None:
    for changing in (method, "DELETE"):
        for malformed in ("1", "x", "%00", f"{own_ids['provider']}x", f"%7B{own_ids['provider']}%7D"):
            path_ids = {"user": user.user_id, "provider": malformed, "conversation": malformed}
            body = None if changing == "DELETE" else CHANGES[method, path]
            assert_problem(user.request(changing, path.format(**path_ids), json=body), 404)
