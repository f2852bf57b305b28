"""Cutting a text into words takes time, so it comes before SQLite's one write lock, wherever text is stored."""

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from flask import Flask

from chat_api.completions import finalize
from chat_api.completions import service as completions
from chat_api.messages import routes
from chat_api.messages import service as messages
from chat_api.messages.tool_results import require_call
from chat_api.search_index import writer
from chat_api.search_index.writer import words_of
from tests.completions.chat import Chat
from tests.support.provider import openai_stream
from tests.transfer.exports import conversation, file_of, message

KEY = {"Idempotency-Key": "words before locks"}
KEPT = "Something with words"
# the supervisor writes as well, for a moment; whoever cuts a text under the lock holds it for as long as this waits
WAIT_S = 2


@pytest.fixture
def cut(app: Flask, backend: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were cut into words; each while somebody else could write."""
    if backend != "sqlite":
        pytest.skip("Postgres has a lock for each conversation.")
    path = app.config["DATABASE_URL"].removeprefix("sqlite:///")
    texts: list[str] = []

    def watched(text: str) -> list[str]:
        with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        texts.append(text)
        return words_of(text)

    for module in (routes, messages, completions, finalize, writer):
        monkeypatch.setattr(module, "words_of", watched)
    return texts


def test_others_can_write_while_a_call_is_looked_for(
    app: Flask, chat: Chat, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result with a key looks for its call before the transaction, however many calls there are."""
    if backend != "sqlite":
        pytest.skip("Postgres has a lock for each conversation.")
    path = app.config["DATABASE_URL"].removeprefix("sqlite:///")
    looked_for: list[str] = []

    def watched(**scope: str) -> None:
        with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        looked_for.append(scope["tool_call_id"])
        require_call(**scope)

    monkeypatch.setattr(routes, "require_call", watched)
    chat.api.calling(chat.conversation_id, "call_1")
    result = {"conversation_id": chat.conversation_id, "role": "tool", "content": "42"}
    for call_id, status in (("call_1", 201), ("call_2", 400)):
        body, key = {**result, "tool_call_id": call_id}, {"Idempotency-Key": call_id}
        assert chat.api.post("/chat/messages", body, headers=key).status_code == status
    assert looked_for == ["call_1", "call_2"]


def post(chat: Chat, headers: dict[str, str] | None = None) -> None:
    body = {"conversation_id": chat.conversation_id, "role": "user", "content": KEPT}
    assert chat.api.post("/chat/messages", body, headers=headers).status_code == 201


def post_with_key(chat: Chat) -> None:
    post(chat, KEY)


def complete(chat: Chat, headers: dict[str, str] | None = None) -> None:
    chat.script(openai_stream("A reply"))
    response = chat.ask(content=KEPT, headers=headers)
    assert (response.status_code, response.get_json()["status"]) == (201, "completed")


def complete_with_key(chat: Chat) -> None:
    complete(chat, KEY)


def import_many(chat: Chat) -> None:
    first = conversation(last_position=500)
    said = [message(first, 1, None, content=KEPT)]
    for position in range(2, 501):
        said.append(message(first, position, said[-1], content=f"Message {position}"))
    first["active_leaf_id"] = said[-1]["id"]
    response = chat.api.post("/chat/import", data=file_of(first, *said), content_type="application/x-ndjson")
    assert (response.status_code, response.get_json()["errors"]) == (200, [])


@pytest.mark.parametrize("store", [post, post_with_key, complete, complete_with_key, import_many])
def test_others_can_write_while_a_text_is_cut_into_words(
    chat: Chat, cut: list[str], store: Callable[[Chat], None]
) -> None:
    store(chat)
    assert KEPT in cut
