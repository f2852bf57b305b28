"""What a conversation's row says of its messages is wrong: an older release or a person with SQL wrote them. Requests
succeed, and the row is right afterwards."""

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from chat_api.messages import repair
from chat_api.messages.repair import Node, place_messages
from tests.completions.chat import Chat, run_sql
from tests.support.api import Api
from tests.support.provider import ScriptedProvider, openai_stream
from tests.support.tables import path_in_tables

MOMENT = "2026-11-23T09:30:00.123456Z"


@pytest.fixture
def chat(ada: Api, provider: ScriptedProvider) -> Chat:
    chat = Chat.begin(ada, provider)
    chat.script(openai_stream("Yes"))
    return chat


def set_row(chat: Chat, assignments: str, **values: Any) -> None:
    run_sql(chat.api.app, f"UPDATE conversations SET {assignments} WHERE id = :id",
            id=chat.conversation_id, **values)  # fmt: skip


def path_of(chat: Chat) -> list[str]:
    return path_in_tables(chat.api.app, chat.api.user_id, chat.conversation_id, counts_bytes=False)


def insert_message(chat: Chat, position: int, content: str, **fields: Any) -> str:
    """As releases before branches do: no parent, no mark, and a row that counts only."""
    values = {"user_id": chat.api.user_id, "id": str(uuid.uuid4()), "conversation_id": chat.conversation_id,
              "position": position, "role": "user", "content": content, "size_bytes": 9, "attachment_count": 0,
              "created_at": MOMENT, **fields}  # fmt: skip
    names = ", ".join(values)
    run_sql(chat.api.app, f"INSERT INTO messages ({names}) VALUES ({', '.join(f':{name}' for name in values)})",
            **values)  # fmt: skip
    return values["id"]


def position_behind(chat: Chat, ids: list[str]) -> list[str]:
    set_row(chat, "last_position = 1")
    return ids


def reply_of_a_release_without_branches(chat: Chat, ids: list[str]) -> list[str]:
    set_row(chat, "message_count = 4")
    return [*ids, insert_message(chat, 4, "old reply")]


def append_of_a_release_without_lengths(chat: Chat, ids: list[str]) -> list[str]:
    id_ = insert_message(chat, 4, "old", parent_id=ids[-1])
    set_row(chat, "message_count = 4, last_position = 4, previous_leaf_id = active_leaf_id, active_leaf_id = :leaf",
            leaf=id_)  # fmt: skip
    return [*ids, id_]


def leaf_points_nowhere(chat: Chat, ids: list[str]) -> list[str]:
    set_row(chat, "active_leaf_id = :leaf", leaf=str(uuid.uuid4()))
    return ids


def leaf_was_deleted(chat: Chat, ids: list[str]) -> list[str]:
    run_sql(chat.api.app, "DELETE FROM messages WHERE id = :id", id=ids[-1])
    return ids[:-1]


def inner_message_was_deleted(chat: Chat, ids: list[str]) -> list[str]:
    run_sql(chat.api.app, "DELETE FROM messages WHERE id = :id", id=ids[1])
    set_row(chat, "last_position = 1")
    return [ids[0], ids[2]]


BREAKS = [position_behind, reply_of_a_release_without_branches, append_of_a_release_without_lengths,
          leaf_points_nowhere, leaf_was_deleted, inner_message_was_deleted]  # fmt: skip


@pytest.fixture(params=BREAKS, ids=lambda break_it: break_it.__name__)
def broken(request: pytest.FixtureRequest, chat: Chat) -> tuple[Chat, list[str]]:
    """A conversation that is broken, and the ids that its path is expected to have."""
    ids = [chat.api.message(chat.conversation_id, f"m{number}")["id"] for number in (1, 2, 3)]
    return chat, request.param(chat, ids)


def post(chat: Chat) -> list[str]:
    return [chat.api.message(chat.conversation_id, "next")["id"]]


def post_with_key(chat: Chat) -> list[str]:
    body = {"conversation_id": chat.conversation_id, "role": "user", "content": "next"}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = chat.api.made("/chat/messages", body, headers=key)
    assert chat.api.made("/chat/messages", body, headers=key) == first
    return [first["id"]]


def complete(chat: Chat) -> list[str]:
    completion = chat.reply(content="next")
    return [completion["parent_id"], completion["message"]["id"]]


def complete_with_key(chat: Chat) -> list[str]:
    response = chat.ask(headers={"Idempotency-Key": uuid.uuid4().hex}, content="next")
    assert response.status_code == 201, response.get_json()
    return [response.get_json()["parent_id"], response.get_json()["message"]["id"]]


def stream(chat: Chat) -> list[str]:
    events = chat.stream(content="next")
    completion = events.rest()[-1].content["completion"]
    return [completion["parent_id"], completion["message"]["id"]]


@pytest.mark.parametrize("act", [post, post_with_key, complete, complete_with_key, stream])
def test_requests_succeed_and_the_conversation_is_whole_again(
    broken: tuple[Chat, list[str]], act: Callable[[Chat], list[str]]
) -> None:
    chat, ids = broken
    new = act(chat)
    path = path_of(chat)
    assert path == [*ids, *new]
    assert [message["id"] for message in chat.messages] == path
    assert chat.api.message(chat.conversation_id, "another")["parent_id"] == new[-1]


@pytest.mark.parametrize("breaks", BREAKS[:4], ids=lambda break_it: break_it.__name__)
def test_a_reply_ends_in_a_conversation_that_broke_while_it_was_written(chat: Chat, breaks: Any) -> None:
    ids = [chat.api.message(chat.conversation_id, f"m{number}")["id"] for number in (1, 2, 3)]
    go_on = threading.Event()
    chat.script(openai_stream("Ye", go_on, "s"))
    events = chat.stream(content=None)
    events.until("Ye")
    ids = breaks(chat, ids)
    go_on.set()
    events.rest()
    assert events.end.name == "completion.completed"
    reply_id = events.end.content["completion"]["message"]["id"]
    assert path_of(chat) == [*ids, reply_id]


def test_a_branch_is_taken_in_a_conversation_that_is_broken(broken: tuple[Chat, list[str]]) -> None:
    chat, ids = broken
    first = chat.api.message(chat.conversation_id, "branch", parent_id=ids[0])
    assert first["parent_id"] == ids[0]
    assert path_of(chat) == [ids[0], first["id"]]


def test_the_length_of_a_path_that_an_older_release_moved_is_counted(
    ada: Api, provider: ScriptedProvider
) -> None:
    chat = Chat.begin(ada, provider, context_window=256)
    ids = [chat.api.message(chat.conversation_id, "word " * 80)["id"] for _ in range(6)]
    asked = {"content": "next", "parameters": {"max_tokens": 10}}
    set_row(chat, "active_leaf_id = :leaf, path_length = 77, counted_leaf_id = NULL", leaf=ids[-1])
    preview = chat.ask(query="?dry_run=true", **asked).get_json()
    assert preview["omitted_messages"] == 4, "Two of six fit."
    assert chat.reply(**asked)["omitted_messages"] == 4
    path_in_tables(chat.api.app, chat.api.user_id, chat.conversation_id)


def test_bytes_that_an_older_release_did_not_count_are_found(chat: Chat) -> None:
    ids = [chat.api.message(chat.conversation_id, f"m{number}")["id"] for number in (1, 2, 3)]
    append_of_a_release_without_lengths(chat, ids)
    scope = {"user_id": chat.api.user_id, "conversation_id": chat.conversation_id}
    with chat.api.app.app_context():
        assert repair.CONTENT_BYTES in repair.inspect(**scope).kinds
        repair.repair_and_commit(**scope)
        assert repair.inspect(**scope).kinds == ()
    path_in_tables(chat.api.app, chat.api.user_id, chat.conversation_id)


def test_attachments_go_on_after_a_count_that_is_behind(app: Flask, ada: Api) -> None:
    message_id = ada.message(ada.conversation()["id"])["id"]
    for _ in range(2):
        ada.attachment(message_id)
    run_sql(app, "UPDATE messages SET attachment_count = 0 WHERE id = :id", id=message_id)
    ada.attachment(message_id)
    assert run_sql(app, "SELECT attachment_count FROM messages WHERE id = :id", id=message_id) == [(3,)]


def test_what_is_not_there_is_still_404(ada: Api, bob: Api) -> None:
    conversation_id = ada.conversation()["id"]
    for missing in (str(uuid.uuid4()), conversation_id):
        body = {"conversation_id": missing, "role": "user", "content": "x"}
        assert bob.post("/chat/messages", body).status_code == 404


# -- the tree ---------------------------------------------------------------------------------------------


@st.composite
def any_rows(draw: st.DrawFn) -> tuple[list[Node], str | None]:
    """Whatever rows the constraints of the tables allow."""
    count = draw(st.integers(0, 7))
    ids = [f"m{number}" for number in range(count)]
    any_id = st.sampled_from([*ids, "gone"]) | st.none()
    nodes = [Node(id_, draw(any_id), number + 1, draw(st.booleans())) for number, id_ in enumerate(ids)]
    return nodes, draw(any_id)


@given(any_rows())
def test_any_rows_become_a_tree_with_one_path(rows: tuple[list[Node], str | None]) -> None:
    stored, leaf_id = rows
    placed, leaf_id = place_messages(stored, leaf_id)
    by_id = {node.id: node for node in placed}
    for node in placed:
        assert node.parent_id is None or by_id[node.parent_id].position < node.position
    path = []
    end = leaf_id
    while end is not None:
        path.append(end)
        end = by_id[end].parent_id
    assert {node.id for node in placed if node.on_path} == set(path)
    assert place_messages(placed, leaf_id) == (placed, leaf_id)
