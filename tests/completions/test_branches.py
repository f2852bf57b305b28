"""Replies to any message: where they go, what is sent to the provider, and what others do at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.session import db
from tests.completions.chat import Chat, run_sql
from tests.support.api import Api
from tests.support.provider import Received, Reply, ScriptedProvider, openai_stream
from tests.support.tables import begin_elsewhere, path_in_tables

Message = dict[str, Any]


def sent_texts(chat: Chat, index: int = -1) -> list[str]:
    return [message["content"] for message in chat.sent[index].json["messages"]]


def every(chat: Chat) -> list[Message]:
    return chat.api.get(f"/chat/conversations/{chat.conversation_id}/messages?branch=all").get_json()


def move(chat: Chat, leaf: str | None) -> None:
    place = f"/chat/conversations/{chat.conversation_id}"
    assert chat.api.patch(place, {"active_leaf_id": leaf}).status_code == 200


def leaf(chat: Chat) -> str | None:
    return chat.api.get(f"/chat/conversations/{chat.conversation_id}").get_json()["active_leaf_id"]


def texts(messages: list[Message]) -> list[str]:
    return [message["content"] for message in messages]


def assert_whole(chat: Chat) -> None:
    path = path_in_tables(chat.api.app, chat.api.user_id, chat.conversation_id)
    assert [message["id"] for message in chat.messages] == path


def test_a_second_reply_stands_beside_the_first(chat: Chat) -> None:
    chat.script(openai_stream("first"), openai_stream("second"))
    first = chat.reply(content="Question")
    chat.api.message(chat.conversation_id, "Thanks")
    second = chat.reply(content=None, parent_id=first["parent_id"])
    assert sent_texts(chat) == ["Question"]
    assert second["message"]["parent_id"] == second["parent_id"] == first["parent_id"]
    assert texts(chat.messages) == ["Question", "second"]
    assert leaf(chat) == second["message"]["id"]
    siblings = [one["id"] for one in every(chat) if one["parent_id"] == first["parent_id"]]
    assert siblings == [first["message"]["id"], second["message"]["id"]]  # "2 of 2"
    assert chat.get(first["id"]) == first
    assert texts(every(chat)) == ["Question", "first", "Thanks", "second"]
    assert_whole(chat)


def test_the_provider_is_told_the_path_up_to_the_answered_message(chat: Chat) -> None:
    here = chat.conversation_id
    chat.api.message(here, "Be brief.", role="system")
    root = chat.api.message(here, "root")
    chat.api.message(here, "old answer", role="assistant")
    chat.api.message(here, "old instructions", role="system")
    fork = chat.api.message(here, "new answer", role="assistant", parent_id=root["id"])
    question = chat.api.message(here, "question")
    chat.api.message(here, "below the question", role="assistant")
    chat.reply(content=None, parent_id=question["id"])
    assert sent_texts(chat) == ["Be brief.", "root", "new answer", "question"]
    chat.reply(content="edited", parent_id=fork["id"])
    assert sent_texts(chat) == ["Be brief.", "root", "new answer", "edited"]
    chat.reply(content=None, parent_id=root["id"])
    assert sent_texts(chat) == ["Be brief.", "root"]
    move(chat, fork["id"])
    chat.reply(content="goes on")
    assert sent_texts(chat) == ["Be brief.", "root", "new answer", "goes on"]
    move(chat, fork["id"])
    chat.reply(content=None)
    assert sent_texts(chat) == ["Be brief.", "root", "new answer"]
    move(chat, None)
    chat.reply(content="from the beginning")
    assert sent_texts(chat) == ["from the beginning"]
    assert_whole(chat)


def test_a_narrow_window_counts_and_keeps_what_is_on_the_path_alone(
    eve: Api, provider: ScriptedProvider
) -> None:
    """A window of four messages of 100 tokens; what lies beside is neither sent nor counted as left out."""
    chat, pad = Chat.begin(eve, provider, context_window=600), "x" * 400
    here = chat.conversation_id
    eve.message(here, "Be brief.", role="system")
    fork = eve.message(here, f"0 {pad}")
    for number in range(6):
        eve.message(here, f"beside {number} {pad}", role=("assistant", "system")[number % 2])
    eve.message(here, f"1 {pad}", role="assistant", parent_id=fork["id"])
    for number in range(2, 8):
        eve.message(here, f"{number} {pad}", role=("user", "assistant")[number % 2])
    eve.message(here, f"beside the end {pad}", parent_id=chat.messages[-2]["id"])
    move(chat, every(chat)[-2]["id"])
    asked = {"content": "Well?"}
    preview = chat.ask(query="?dry_run=true", **asked).get_json()
    completion = chat.reply(**asked)
    assert completion["omitted_messages"] == preview["omitted_messages"] == 4
    assert [text.split()[0] for text in sent_texts(chat)] == ["Be", "4", "5", "6", "7", "Well?"]


def test_two_replies_at_once_to_different_messages(chat: Chat) -> None:
    go = threading.Event()
    first, second = chat.api.message(chat.conversation_id, "A"), chat.api.message(chat.conversation_id, "B")
    chat.script(lambda request: openai_stream("to ", go, f"{request.json['messages'][-1]['content']}"))
    with ThreadPoolExecutor(2) as pool:
        replies = [
            pool.submit(chat.reply, content=None, parent_id=parent["id"]) for parent in (first, second)
        ]
        chat.request(2)
        busy = chat.ask(content=None, parent_id=first["id"])
        go.set()
        assert busy.status_code == 409
        for reply, parent in zip([one.result() for one in replies], (first, second), strict=True):
            assert reply["message"]["parent_id"] == parent["id"]
            assert reply["message"]["content"].endswith(parent["content"])
    assert sorted(sent.json["messages"][0]["content"] for sent in chat.sent) == ["A", "A\n\nB"]
    assert len(every(chat)) == 4
    assert_whole(chat)


@pytest.mark.parametrize("names_parent", [False, True])
def test_a_path_that_moved_away_meanwhile_stays_there(chat: Chat, names_parent: bool) -> None:
    root = chat.api.message(chat.conversation_id, "root")
    other = chat.api.message(chat.conversation_id, "other")
    question = chat.api.message(chat.conversation_id, "question", parent_id=root["id"])

    def leave(request: Received) -> Reply:
        move(chat, other["id"])
        return openai_stream("answer")

    chat.script(leave)
    reply = chat.reply(content=None, parent_id=question["id"] if names_parent else None)
    assert reply["message"]["parent_id"] == question["id"]
    assert leaf(chat) == other["id"]
    assert texts(chat.messages) == ["root", "other"]
    assert every(chat)[-1] == reply["message"] == chat.get(reply["id"])["message"]
    conversation = chat.api.get(f"/chat/conversations/{chat.conversation_id}").get_json()
    assert (conversation["message_count"], conversation["updated_at"]) == (
        4,
        reply["message"]["created_at"],
    )
    assert_whole(chat)


def test_a_message_that_was_posted_meanwhile_is_followed(chat: Chat) -> None:
    def interrupt(request: Received) -> Reply:
        chat.api.message(chat.conversation_id, "By the way")
        return openai_stream("answer")

    chat.script(interrupt)
    reply = chat.reply(content="Question")
    assert texts(chat.messages) == ["Question", "By the way", "answer"]
    assert leaf(chat) == reply["message"]["id"]
    assert_whole(chat)


def test_what_was_said_meanwhile_stays_where_a_branch_was_asked_for(chat: Chat) -> None:
    question = chat.api.message(chat.conversation_id, "Question")

    def interrupt(request: Received) -> Reply:
        chat.api.message(chat.conversation_id, "By the way")
        return openai_stream("answer")

    chat.script(interrupt)
    reply = chat.reply(content=None, parent_id=question["id"])
    assert reply["message"]["parent_id"] == question["id"]
    assert texts(chat.messages) == ["Question", "By the way"]
    assert_whole(chat)


def test_a_later_message_of_the_path_that_is_deleted_meanwhile_is_no_harm(chat: Chat) -> None:
    deleted: list[str] = []

    def interrupt(request: Received) -> Reply:
        later = chat.api.message(chat.conversation_id, "later")["id"]
        assert chat.api.delete(f"/chat/messages/{later}").status_code == 204
        deleted.append(later)
        return openai_stream("answer")

    chat.script(interrupt)
    reply = chat.reply(content="Question")
    assert (texts(chat.messages), reply["message"]["position"]) == (["Question", "answer"], 3)
    assert reply["message"]["parent_id"] == reply["parent_id"]
    assert_whole(chat)


@pytest.mark.parametrize("path_stays", [True, False])
def test_a_reply_that_breaks_off_stands_where_it_would_have_stood(chat: Chat, path_stays: bool) -> None:
    root = chat.api.message(chat.conversation_id, "root")
    question = chat.api.message(chat.conversation_id, "question")
    chat.script(openai_stream("so ", "far", finish="length"))
    if path_stays:
        reply = chat.reply(content=None)
    else:
        chat.script(lambda request: (move(chat, root["id"]), openai_stream("so ", "far", finish="length"))[1])  # type: ignore[func-returns-value]
        reply = chat.reply(content=None)
    assert (reply["status"], reply["message"]["status"]) == ("incomplete", "incomplete")
    assert reply["message"]["parent_id"] == question["id"]
    assert leaf(chat) == (reply["message"]["id"] if path_stays else root["id"])
    assert_whole(chat)


def test_a_dry_run_moves_nothing(app: Flask, chat: Chat) -> None:
    root = chat.api.message(chat.conversation_id, "root")
    chat.api.message(chat.conversation_id, "below")
    place = f"/chat/conversations/{chat.conversation_id}"

    def stored() -> Any:
        rows = run_sql(app, "SELECT * FROM messages WHERE conversation_id = :id ORDER BY position",
                       id=chat.conversation_id)  # fmt: skip
        return chat.api.get(place).get_json(), chat.messages, rows

    before = stored()
    for content in (None, "Another"):
        preview = chat.ask(query="?dry_run=true", content=content, parent_id=root["id"]).get_json()
        sent = [message["content"] for message in preview["request"]["body"]["messages"]]
        assert sent == ["\n\n".join(["root", *([content] if content else [])])]
        assert stored() == before
    refused = chat.ask(query="?dry_run=true", content=None, parent_id=chat.conversation_id)
    assert refused.status_code == 404
    assert stored() == before
    assert_whole(chat)


def test_a_refused_reply_moves_nothing(chat: Chat, bob: Api) -> None:
    """The path is led to the answered message first; whatever is refused after that takes it back."""
    root = chat.api.message(chat.conversation_id, "root")
    below = chat.api.message(chat.conversation_id, "below")
    elsewhere = chat.api.message(chat.elsewhere().conversation_id)["id"]
    his = bob.message(bob.conversation()["id"])["id"]
    for parent in (elsewhere, his, chat.conversation_id):
        assert chat.ask(content="x", parent_id=parent).status_code == 404
    go = threading.Event()
    chat.script(openai_stream("slow", go))
    stream = chat.stream(content=None)
    assert chat.ask(content=None, parent_id=below["id"]).status_code == 409
    assert leaf(chat) == below["id"]
    go.set()
    stream.rest()
    assert texts(chat.messages) == ["root", "below", "slow"]
    assert root["id"] == chat.messages[0]["id"]
    assert_whole(chat)


def test_completions_of_all_branches_are_listed(chat: Chat) -> None:
    first = chat.reply(content="Question")
    second = chat.reply(content=None, parent_id=first["parent_id"])
    assert chat.completions == [first, second]
    assert chat.api.delete(f"/chat/messages/{first['message']['id']}").status_code == 204
    assert [one["message"] for one in chat.completions] == [None, second["message"]]
    assert chat.get(first["id"])["status"] == "completed"
    assert chat.api.delete(f"/chat/messages/{first['parent_id']}").status_code == 204
    assert chat.completions == []


@pytest.mark.parametrize("path_stays", [True, False])
def test_a_reply_whose_worker_died_is_stored_where_it_belongs(
    app: Flask, chat: Chat, path_stays: bool
) -> None:
    root = chat.api.message(chat.conversation_id, "root")
    question = chat.api.message(chat.conversation_id, "question")
    completion_id = begin_elsewhere(app, chat.api.user_id, question, chat.provider_id)
    assert chat.get(completion_id)["message"]["parent_id"] == question["id"]
    if not path_stays:
        move(chat, root["id"])
    run_sql(app, "UPDATE completions SET lease_expires_at = created_at WHERE id = :id", id=completion_id)
    finalized = chat.get(completion_id)
    assert (finalized["status"], finalized["finish_reason"]) == ("incomplete", "worker_lost")
    assert (finalized["message"]["parent_id"], finalized["message"]["content"]) == (
        question["id"],
        "By the river",
    )
    assert leaf(chat) == (finalized["message"]["id"] if path_stays else root["id"])
    assert every(chat)[-1] == finalized["message"]
    assert_whole(chat)


def test_a_dry_run_of_a_branch_sends_what_a_run_sends(eve: Api, provider: ScriptedProvider) -> None:
    """Also where the window takes in a part only, with instructions before and after the fork."""
    chat = Chat.begin(eve, provider, context_window=600)
    say = chat.api.message
    root = say(chat.conversation_id, "Be brief.", role="system")
    fork = say(chat.conversation_id, "0 " + "x" * 400)
    branch = fork
    for number in range(1, 7):
        role = "developer" if number == 1 else ("user", "assistant")[number % 2]
        branch = say(chat.conversation_id, f"{number} " + "x" * 400, role=role, parent_id=branch["id"])
    for parent in (root, fork):  # elsewhere, so that the branch leaves the path at `fork`, and then at `root`
        say(chat.conversation_id, "elsewhere", parent_id=parent["id"])
        for fields in ({"content": "Well?"}, {"content": None}):
            asked = {**fields, "parent_id": branch["id"]}
            place = chat.api.get(f"/chat/conversations/{chat.conversation_id}").get_json()
            preview = chat.ask(query="?dry_run=true", **asked).get_json()
            assert chat.api.get(f"/chat/conversations/{chat.conversation_id}").get_json() == place
            completion = chat.reply(**asked)
            assert chat.sent[-1].json["messages"] == preview["request"]["body"]["messages"]
            assert completion["omitted_messages"] == preview["omitted_messages"] > 0
            assert chat.api.delete(f"/chat/messages/{completion['message']['id']}").status_code == 204
            say(chat.conversation_id, "elsewhere", parent_id=parent["id"])


def test_a_dry_run_waits_for_no_writer(app: Flask, chat: Chat, backend: str) -> None:
    """It only reads: somebody who holds SQLite's lock, or that of the conversation, does not stop it."""
    root = chat.api.message(chat.conversation_id, "root")
    chat.api.message(chat.conversation_id, "after it")
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.text("UPDATE conversations SET title = title"))
        for parent_id in (root["id"], None):
            asked = {"content": "Well?", "parent_id": parent_id}
            assert chat.ask(query="?dry_run=true", **asked).status_code == 200
