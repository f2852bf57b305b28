"""POST /chat/completions with something that it does not take."""

from typing import Any

import pytest

from tests.support.api import Api
from tests.support.bodies import Body
from tests.support.problems import assert_problem


@pytest.mark.parametrize("name", ["base_url", "api_key", "headers", "api_endpoint", "timeout", "user_id", "messages",
                                  "system", "temperature", "max_tokens", "tools", "dry_run"])  # fmt: skip
def test_nothing_else_steers_a_completion(user: Api, body_for: Body, name: str) -> None:
    body = body_for("/chat/completions") | {name: "http://169.254.169.254/"}
    assert_problem(user.post("/chat/completions", body), 400, name)


@pytest.mark.parametrize(
    ("fields", "name", "hint"),
    [
        ({"max_tokens": 10}, "max_tokens", "It belongs into `parameters`."),
        ({"temperature": 1}, "temperature", "It belongs into `parameters`."),
        (
            {"parameters": {"stream": True}},
            "parameters",
            "stream: Unknown field. It belongs beside `parameters`",
        ),
        (
            {"parameters": {"model": "m"}},
            "parameters",
            "model: Unknown field. It belongs beside `parameters`",
        ),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages", "Put the new message into `content`"),
        ({"system": "Be brief."}, "system", "Append a message with the role `system`"),
        ({"nonsense": 1}, "nonsense", "Unknown field."),
    ],
)
def test_a_field_in_the_wrong_place_says_where_it_belongs(
    user: Api, body_for: Body, fields: dict[str, Any], name: str, hint: str
) -> None:
    problem = assert_problem(
        user.post("/chat/completions", body_for("/chat/completions") | fields), 400, name
    )
    assert hint in problem["errors"][name][0]


def test_null_means_not_given(user: Api, body_for: Body) -> None:
    nothing = {"stream": None, "on_disconnect": None, "background": None, "parameters": {"temperature": None}}
    body = body_for("/chat/completions")
    preview = user.post("/chat/completions/preview", {**body, "parameters": {"temperature": None, "seed": 7}})
    assert preview.status_code == 200
    assert "temperature" not in preview.get_json()["request"]["body"]
    assert user.post("/chat/completions", {**body, **nothing}).status_code == 201
    assert_problem(user.post("/chat/completions", {**body, "conversation_id": None}), 400, "conversation_id")


def test_nobody_waits_for_a_completion_in_the_background(user: Api, body_for: Body) -> None:
    body = body_for("/chat/completions") | {"background": True}
    assert_problem(user.post("/chat/completions", {**body, "stream": True}), 400, "background")
    assert_problem(user.post("/chat/completions", {**body, "on_disconnect": "cancel"}), 400, "on_disconnect")


@pytest.mark.parametrize("value", ["Continue", "stop", "continue ", "", True])
def test_unknown_end_for_a_client_that_leaves_is_refused(user: Api, body_for: Body, value: Any) -> None:
    body = body_for("/chat/completions") | {"on_disconnect": value}
    assert_problem(user.post("/chat/completions", body), 400, "on_disconnect")


def test_completion_without_anything_to_answer_is_refused(user: Api, own_ids: dict[str, str]) -> None:
    body = {"conversation_id": user.conversation()["id"], "provider_id": own_ids["replying"], "model": "m"}
    for path in ("/chat/completions", "/chat/completions?dry_run=true"):
        assert_problem(user.post(path, body), 400, "content")
        assert_problem(user.post(path, {**body, "model": None, "content": "x"}), 400, "model")


@pytest.mark.parametrize("query", ["dry_run=1", "dry_run=True", "dry_run=", "dry_run", "dry_run=yes", "dry_run=%00",
                                   "dry_run=true&dry_run=true", "dryrun=true", "stream=true"])  # fmt: skip
def test_bad_query_of_a_completion_is_refused(user: Api, body_for: Body, query: str) -> None:
    refused = user.post(f"/chat/completions?{query}", body_for("/chat/completions"))
    assert_problem(refused, 400, query.partition("=")[0])
