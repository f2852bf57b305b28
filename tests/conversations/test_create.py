"""POST /chat/conversations and GET /chat/conversations/{id}: what is stored and returned."""

import pytest

from chat_api.database.columns import new_id
from tests.support.api import Api

CONVERSATIONS = "/chat/conversations"


@pytest.mark.happy_path("create_conversation")
def test_a_created_conversation_is_empty_and_returned_whole(ada: Api) -> None:
    response = ada.post(CONVERSATIONS, {"user_id": ada.user_id, "title": "Trip to Lisbon"})
    assert response.status_code == 201
    conversation = response.get_json()
    assert response.headers["Location"] == f"{CONVERSATIONS}/{conversation['id']}"
    assert conversation == {
        "id": conversation["id"],
        "user_id": ada.user_id,
        "title": "Trip to Lisbon",
        "archived": False,
        "pinned": False,
        "message_count": 0,
        "active_leaf_id": None,
        "metadata": {},
        "source": "native",
        "created_at": conversation["created_at"],
        "updated_at": conversation["created_at"],
    }
    assert ada.get(f"{CONVERSATIONS}/{conversation['id']}/messages").get_json() == []


@pytest.mark.happy_path("get_conversation")
def test_a_conversation_is_read_with_its_messages_counted(ada: Api) -> None:
    conversation, other = ada.conversation("One"), ada.conversation("Two")
    messages = [ada.message(conversation["id"]) for _ in range(2)]
    response = ada.get(f"{CONVERSATIONS}/{conversation['id']}")
    assert response.status_code == 200
    found = response.get_json()
    assert found["updated_at"] > conversation["updated_at"]
    assert found == conversation | {
        "message_count": 2,
        "active_leaf_id": messages[1]["id"],
        "updated_at": found["updated_at"],
    }
    assert ada.get(f"{CONVERSATIONS}/{other['id']}").get_json() == other
    assert ada.get(f"{CONVERSATIONS}/{new_id()}").status_code == 404


def test_length_of_a_title_counts_characters(ada: Api) -> None:
    title = "😀" * 255
    assert ada.conversation(title)["title"] == title
