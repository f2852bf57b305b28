"""The fields of every POST: of the right type, there, known, not too long."""

import json
from typing import Any

import pytest

from chat_api.web.echo import field_name
from tests.support.api import Api
from tests.support.bodies import FIELDS, MIB, REQUIRED, Body, each_field, each_post, send_raw
from tests.support.problems import assert_problem


@each_post
def test_body_of_the_right_shape_is_accepted(user: Api, body_for: Body, path: str) -> None:
    """Without this the refusals here could have another reason."""
    body = body_for(path)
    if path == "/chat/user-llm-configs":
        body["provider_id"] = user.provider()["id"]
    assert user.post(path, body).status_code in (200, 201)


@each_field
def test_wrong_type_is_refused(user: Api, body_for: Body, path: str, field: str) -> None:
    # without a value some fields mean the same with null
    right: dict[str, list[Any]] = {
        "shared": [True, False], "stream": [True, False], "expires_in_days": [1], "context_window": [None],
        "parameters": [{}], "parent_id": [None], "model": [None, "true", "1"], "default_model": [None, "true", "1"],
    }  # fmt: skip
    if path == "/chat/completions":
        right["content"] = [None, "true", "1"]
    if path == "/chat/messages":
        right["content"] = ["", "true", "1"]  # of a tool
    if path == "/chat/conversations" and field == "title":
        right["title"] = ["", "true", "1"]
    accepted = [repr(value) for value in right.get(field, ["true", "1"])]
    if field not in REQUIRED[path]:  # null means that it is not given
        accepted.append("None")
    for value in (
        None,
        True,
        False,
        0,
        1,
        -1,
        1.5,
        1e300,
        10**100,
        "",
        "true",
        "1",
        [],
        ["x"],
        {},
        {"x": "y"},
    ):
        if repr(value) not in accepted:
            raw = json.dumps(body_for(path) | {field: value}).encode()
            assert_problem(send_raw(user, path, raw), 400, field)


@each_field
def test_missing_field_is_refused(user: Api, body_for: Body, path: str, field: str) -> None:
    body = body_for(path)
    del body[field]
    if field in REQUIRED[path]:
        assert_problem(user.post(path, body), 400, field)


@each_post
def test_all_missing_fields_are_named_at_once(user: Api, path: str) -> None:
    answer = user.post(path, {})
    if REQUIRED[path]:
        assert_problem(answer, 400, *REQUIRED[path])
    else:
        assert answer.status_code == 201


@each_post
@pytest.mark.parametrize("name", ["surprise", "id", "role_", "__proto__", "", "Title", "é", "x" * 10_000])
def test_unknown_field_is_refused(user: Api, body_for: Body, path: str, name: str) -> None:
    assert_problem(user.post(path, body_for(path) | {name: "x"}), 400, field_name(name))


LONGEST = {
    ("/auth/tokens", "name"): 100,
    ("/chat/conversations", "title"): 255,
    ("/chat/attachments", "file_path"): 4096,
    ("/chat/llm-providers", "name"): 255,
    ("/chat/user-llm-configs", "api_key"): 4096,
    ("/chat/user-llm-configs", "default_model"): 255,
    ("/chat/messages", "content"): MIB,
    ("/chat/messages", "tool_call_id"): 255,
    ("/chat/completions", "content"): MIB,
    ("/chat/completions", "model"): 255,
}


@pytest.mark.parametrize(("path", "field"), LONGEST)
def test_text_may_be_as_long_as_documented_and_no_longer(
    user: Api, body_for: Body, path: str, field: str
) -> None:
    body, longest = body_for(path), LONGEST[path, field]
    if path == "/chat/user-llm-configs":
        body["provider_id"] = user.provider()["id"]
    assert user.post(path, body | {field: "x" * longest}).status_code == 201
    assert_problem(user.post(path, body | {field: "x" * (longest + 1)}), 400, field)


@pytest.mark.parametrize(
    "malformed",
    [
        "1",
        "x" * 36,
        "{id}",
        "urn:uuid:{id}",
        "{{{id}}}",
        "{id}\n",
        " {id}",
        "{id}0",
        "' OR 1=1 --",
        "../{id}",
    ],
)
def test_malformed_id_is_400_in_a_body(user: Api, body_for: Body, malformed: str) -> None:
    for path, field in FIELDS:
        if field.endswith("_id") and field != "tool_call_id":
            value = (
                malformed.replace("{id}", body_for(path)[field])
                if malformed != "{id}"
                else body_for(path)[field][:-1]
            )
            assert_problem(user.post(path, body_for(path) | {field: value}), 400, field)
