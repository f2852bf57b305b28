"""POST /chat/messages: what is stored and answered, and what is refused."""

import pytest

from tests.support.api import Api
from tests.support.bodies import MIB, Body
from tests.support.problems import assert_problem


def test_length_of_a_message_counts_bytes(user: Api, body_for: Body) -> None:
    message = body_for("/chat/messages")
    assert user.post("/chat/messages", message | {"content": "€" * (MIB // 3)}).status_code == 201
    assert_problem(user.post("/chat/messages", message | {"content": "€" * (MIB // 3 + 1)}), 400, "content")


@pytest.mark.parametrize("role", ["User", "user ", "admin", "function", "usеr", "user\n"])
def test_unknown_role_is_refused(user: Api, body_for: Body, role: str) -> None:
    assert_problem(user.post("/chat/messages", body_for("/chat/messages") | {"role": role}), 400, "role")
