"""POST /chat/messages and GET /chat/messages/{id}: what is stored and returned, and what is refused."""

import pytest

from chat_api.database.columns import new_id
from chat_api.messages.models import ROLES
from tests.support.api import Api
from tests.support.bodies import MIB, Body
from tests.support.problems import assert_problem


@pytest.mark.happy_path("create_message")
def test_a_created_message_is_returned_whole_and_ends_the_path(ada: Api) -> None:
    conversation = ada.conversation()["id"]
    first = ada.message(conversation)
    body = {"conversation_id": conversation, "role": "assistant", "content": " Try the tram. 🚋\n"}
    response = ada.post("/chat/messages", body)
    assert response.status_code == 201
    message = response.get_json()
    assert response.headers["Location"] == f"/chat/messages/{message['id']}"
    assert message == {
        **body,
        "id": message["id"],
        "parent_id": first["id"],
        "position": 2,
        "status": "completed",
        "created_at": message["created_at"],
    }
    assert ada.get(f"/chat/conversations/{conversation}/messages").get_json() == [first, message]
    after = ada.get(f"/chat/conversations/{conversation}").get_json()
    assert (after["message_count"], after["active_leaf_id"]) == (2, message["id"])
    assert after["updated_at"] == message["created_at"]


@pytest.mark.parametrize("role", ROLES)
def test_a_message_may_have_any_known_role(ada: Api, role: str) -> None:
    conversation = ada.conversation()["id"]
    first = ada.calling(conversation, "call_1")
    fields = {"tool_call_id": "call_1"} if role == "tool" else {}
    message = ada.message(conversation, role=role, **fields)
    assert (message["role"], message["parent_id"], message["position"]) == (role, first["id"], 2)


@pytest.mark.happy_path("get_message")
def test_a_message_is_read_by_its_id(ada: Api, bob: Api) -> None:
    conversation = ada.conversation()["id"]
    messages = [ada.message(conversation, content) for content in ("One", "Two")]
    for message in messages:
        response = ada.get(f"/chat/messages/{message['id']}")
        assert (response.status_code, response.get_json()) == (200, message)
        assert bob.get(f"/chat/messages/{message['id']}").status_code == 404
    assert ada.get(f"/chat/messages/{new_id()}").status_code == 404


def test_length_of_a_message_counts_bytes(user: Api, body_for: Body) -> None:
    message = body_for("/chat/messages")
    assert user.post("/chat/messages", message | {"content": "€" * (MIB // 3)}).status_code == 201
    assert_problem(user.post("/chat/messages", message | {"content": "€" * (MIB // 3 + 1)}), 400, "content")


@pytest.mark.parametrize("role", ["User", "user ", "admin", "function", "usеr", "user\n"])
def test_unknown_role_is_refused(user: Api, body_for: Body, role: str) -> None:
    assert_problem(user.post("/chat/messages", body_for("/chat/messages") | {"role": role}), 400, "role")
