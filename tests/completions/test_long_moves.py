"""A request that needs a long move of the active path on SQLite: it is moved in steps before, also with a key."""

from typing import Any

import pytest
from flask import Flask

from chat_api.messages import active_path
from tests.completions.chat import Chat
from tests.support.provider import openai_stream
from tests.support.tables import path_in_tables

PATHS = ("/chat/messages", "/chat/completions")


@pytest.fixture(autouse=True)
def _short_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(active_path, "LONGEST_MOVE", 2)


def branches(chat: Chat) -> tuple[list[str], list[str]]:
    """Two branches of seven messages each; the second one is the active path."""

    def said(parent_id: str | None) -> list[str]:
        ids: list[str] = []
        for _ in range(7):
            its_parent: Any = ids[-1] if ids else parent_id
            ids.append(chat.api.message(chat.conversation_id, parent_id=its_parent)["id"])
        return ids

    return said(None), said(None)


def body_of(chat: Chat, path: str, parent_id: str) -> dict[str, Any]:
    if path == "/chat/completions":
        return chat.asked(content="Go on", parent_id=parent_id, stream=False)
    return {
        "conversation_id": chat.conversation_id,
        "role": "user",
        "content": "Go on",
        "parent_id": parent_id,
    }


@pytest.mark.parametrize("has_key", [True, False])
@pytest.mark.parametrize("path", PATHS)
def test_reply_to_a_message_far_from_the_path_has_one_effect(
    app: Flask, chat: Chat, path: str, has_key: bool
) -> None:
    first, _ = branches(chat)
    chat.script(openai_stream("Yes"))
    headers = {"Idempotency-Key": "far"} if has_key else None
    body = body_of(chat, path, first[-1])
    response = chat.api.post(path, body, headers=headers)
    assert response.status_code == 201, response.get_data(as_text=True)
    stored = path_in_tables(app, chat.api.user_id, chat.conversation_id)
    assert stored[:7] == first
    assert len(stored) == (9 if path == "/chat/completions" else 8)
    if has_key:
        again = chat.api.post(path, body, headers=headers)
        assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
        assert again.get_json()["id"] == response.get_json()["id"]
        assert path_in_tables(app, chat.api.user_id, chat.conversation_id) == stored
