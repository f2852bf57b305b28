"""Ids in paths."""

import pytest

from chat_api.database.columns import new_id
from tests.support.api import Api
from tests.support.problems import assert_problem


@pytest.mark.parametrize(
    "malformed", ["1", "x", "%00", "..%2f", "{id}x", "{id}%0a", "%7B{id}%7D", "{id}%00", "%F0%9F%98%80"]
)
@pytest.mark.parametrize("path", ["/chat/conversations/@", "/chat/conversations/@/messages",
                                  "/chat/messages/@/attachments", "/chat/llm-providers/@",
                                  "/chat/user-llm-configs/@/{id}", "/chat/user-llm-configs/{id}/@",
                                  "/chat/conversations/@/completions", "/chat/completions/@",
                                  "/chat/completions/@/events", "/chat/llm-providers/@/models"])  # fmt: skip
def test_malformed_id_is_404_in_a_path(user: Api, path: str, malformed: str) -> None:
    assert_problem(user.get(path.replace("@", malformed).replace("{id}", new_id())), 404)
