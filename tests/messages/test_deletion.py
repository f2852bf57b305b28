"""Deleting messages and conversations: what goes along, what stays, and all or nothing."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from chat_api.database import bulk
from chat_api.database.columns import new_id
from chat_api.database.session import db
from chat_api.messages import active_path, deletion
from chat_api.operations.erasure import erase_account
from tests.completions.chat import Chat, run_sql, wait_for
from tests.conftest import user_maker
from tests.support.api import PASSWORD, Api
from tests.support.plans import analyze
from tests.support.provider import Pause, ScriptedProvider, openai_stream
from tests.support.tables import begin_elsewhere, owned_rows, path_in_tables

BELOW_A_CONVERSATION = ("messages", "attachments", "completions", "completion_pieces")
Insert = Callable[..., list[str]]


def filled(user: Api, conversation_id: str, count: int, side: int = 0) -> list[str]:
    """Fill a conversation with many messages past the service; `side` of them hang below the first, off the path."""
    ids = [new_id() for _ in range(count + side)]
    rows = []
    for number, id_ in enumerate(ids):
        parent = ids[0] if number == count else ids[number - 1]
        rows.append(
            {"user_id": user.user_id, "id": id_, "conversation_id": conversation_id, "position": number + 1,
             "parent_id": None if number == 0 else parent, "on_path": number < count, "role": "user",
             "content": "x", "size_bytes": 1, "attachment_count": 0}
        )  # fmt: skip
    tables = db.metadata.tables
    with user.app.app_context():
        db.session.execute(sa.insert(tables["messages"]), rows)
        here = tables["conversations"].c.id == conversation_id
        values = {
            "message_count": len(ids),
            "last_position": len(ids),
            "active_leaf_id": ids[count - 1],
            "path_length": count,
            "counted_leaf_id": ids[count - 1],
            "content_bytes": len(ids),
        }
        db.session.execute(sa.update(tables["conversations"]).where(here).values(values))
        db.session.commit()
    return ids


@pytest.fixture
def long_chat(ada: Api) -> Insert:
    """Fill a conversation of hers, see `filled`."""
    return partial(filled, ada)


def everything_in(user: Api, provider: ScriptedProvider) -> dict[str, Any]:
    """A conversation with a row in each table below it: two branches, attachments, replies that end and that run."""
    provider_id = user.provider(api_endpoint=provider.url)["id"]
    user.config(provider_id)
    conversation = user.conversation()
    first = user.message(conversation["id"])
    user.attachment(first["id"])
    user.completion(conversation["id"], provider_id)
    branch = user.message(conversation["id"], parent_id=first["id"])
    user.attachment(branch["id"])
    begin_elsewhere(user.app, user.user_id, branch, provider_id)
    return conversation


def test_all_of_a_conversation_goes_along_and_nothing_else(
    app: Flask, ada: Api, provider: ScriptedProvider
) -> None:
    everything_in(ada, provider)
    before = owned_rows(app, ada.user_id)
    conversation = everything_in(ada, provider)
    with_it = owned_rows(app, ada.user_id)
    assert all(with_it[table] == 2 * before[table] > 0 for table in BELOW_A_CONVERSATION)
    deleted = ada.delete(f"/chat/conversations/{conversation['id']}")
    assert (deleted.status_code, deleted.get_data()) == (204, b"")
    after = owned_rows(app, ada.user_id)
    for table in (*BELOW_A_CONVERSATION, "conversations"):
        assert after[table] == before[table], table
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/messages"), ("GET", "/completions")):
        assert ada.request(method, f"/chat/conversations/{conversation['id']}{path}").status_code == 404


@pytest.mark.happy_path("delete_message")
def test_a_message_takes_along_what_hangs_below_it(app: Flask, ada: Api, provider: ScriptedProvider) -> None:
    everything_in(ada, provider)
    before = owned_rows(app, ada.user_id)
    conversation = everything_in(ada, provider)
    first = ada.get(f"/chat/conversations/{conversation['id']}/messages").get_json()[0]
    assert ada.delete(f"/chat/messages/{first['id']}").status_code == 204
    after = owned_rows(app, ada.user_id)
    assert {table: after[table] for table in BELOW_A_CONVERSATION} == {
        table: before[table] for table in BELOW_A_CONVERSATION
    }
    left = ada.get(f"/chat/conversations/{conversation['id']}").get_json()
    assert (left["message_count"], left["active_leaf_id"]) == (0, None)


def test_path_and_leaf_end_in_front_of_a_deleted_message(app: Flask, ada: Api) -> None:
    conversation = ada.conversation()["id"]
    place = f"/chat/conversations/{conversation}"
    path = [ada.message(conversation, f"{number}") for number in range(4)]
    before = ada.get(place).get_json()
    assert ada.delete(f"/chat/messages/{path[2]['id']}").status_code == 204
    after = ada.get(place).get_json()
    assert after == {**before, "message_count": 2, "active_leaf_id": path[1]["id"]}
    assert ada.get(f"{place}/messages").get_json() == path[:2]
    following = ada.message(conversation, "next")
    assert (following["position"], following["parent_id"]) == (5, path[1]["id"])


def test_a_title_of_deleted_words_goes_with_them(ada: Api) -> None:
    conversation = ada.conversation("A secret")["id"]
    place = f"/chat/conversations/{conversation}"
    root = ada.message(conversation, "Be brief.", role="system")
    first = ada.message(conversation, "A secret", parent_id=root["id"])
    ada.message(conversation, "Other words", parent_id=root["id"])
    assert ada.delete(f"/chat/messages/{first['id']}").status_code == 204
    assert ada.get(place).get_json()["title"] == "Other words"
    assert ada.delete(f"/chat/messages/{root['id']}").status_code == 204
    assert ada.get(place).get_json()["title"] == ""


def test_a_deleted_branch_beside_the_path_leaves_that_alone(app: Flask, ada: Api) -> None:
    conversation = ada.conversation()["id"]
    place = f"/chat/conversations/{conversation}"
    first = ada.message(conversation)
    other = ada.message(conversation, "other")
    ada.message(conversation, "below other")
    third = ada.message(conversation, "third", parent_id=first["id"])
    sibling = ada.message(conversation, "another beginning", parent_id=None)
    ada.patch(place, {"active_leaf_id": third["id"]})
    assert ada.delete(f"/chat/messages/{other['id']}").status_code == 204
    assert ada.get(f"{place}/messages").get_json() == [first, third]
    assert ada.get(f"{place}/messages?branch=all").get_json() == [first, third, sibling]
    assert path_in_tables(app, ada.user_id, conversation) == [first["id"], third["id"]]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_what_hangs_below_is_found_across_batches(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(deletion, "BATCH_ROWS", batch)
    conversation = ada.conversation()["id"]
    first = ada.message(conversation)["id"]
    left, right = [ada.message(conversation, "x", parent_id=first)["id"] for _ in range(2)]
    kept = [first, right]
    for number in range(12):  # in turn below the one and the other
        below = ada.message(conversation, "x", parent_id=(left, right)[number % 2])["id"]
        if number % 2:
            right = below
            kept.append(below)
        else:
            left = below
    doomed = ada.get(f"/chat/conversations/{conversation}/messages?branch=all").get_json()[1]["id"]
    assert ada.delete(f"/chat/messages/{doomed}").status_code == 204
    left_over = ada.get(f"/chat/conversations/{conversation}/messages?branch=all").get_json()
    assert [one["id"] for one in left_over] == kept
    assert path_in_tables(app, ada.user_id, conversation) == kept


def test_a_long_branch_goes_in_one_request(app: Flask, ada: Api, long_chat: Insert) -> None:
    conversation = ada.conversation()["id"]
    ids = long_chat(conversation, 1500, side=3100)
    ada.attachment(ids[-1])
    assert ada.delete(f"/chat/messages/{ids[1500]}").status_code == 204
    assert path_in_tables(app, ada.user_id, conversation) == ids[:1500]
    assert owned_rows(app, ada.user_id)["attachments"] == 0
    assert ada.delete(f"/chat/messages/{ids[1]}").status_code == 204
    assert path_in_tables(app, ada.user_id, conversation) == ids[:1]


def test_a_long_conversation_goes_in_one_request_whatever_the_batches(
    app: Flask, ada: Api, long_chat: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch in (
        1000,
        10_000,
    ):  # 3,000 messages are three whole batches of the one, and less than one of the other
        monkeypatch.setattr(bulk, "ROWS_ON_POSTGRES", batch)
        monkeypatch.setattr(bulk, "ROWS_ON_SQLITE", batch)
        conversation = ada.conversation()["id"]
        long_chat(conversation, 2000, side=1000)
        assert ada.delete(f"/chat/conversations/{conversation}").status_code == 204
        rows = owned_rows(app, ada.user_id)
        assert (rows["conversations"], rows["messages"]) == (0, 0)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True, scope="session")
@pytest.mark.parametrize("what", ["conversation", "message", "path", "user"])
def test_postgres_reads_a_row_a_few_times_also_when_it_expects_few_rows(
    app: Flask, ada: Api, long_chat: Insert, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Many users with a few messages each is what its statistics know; they know nothing of one with thousands."""
    monkeypatch.setattr(bulk, "ROWS_ON_POSTGRES", 500)
    run_sql(
        app,
        "INSERT INTO users (id, role, created_at) SELECT gen_random_uuid(), 'user', now() FROM generate_series(1, 500)",
    )
    run_sql(
        app,
        "INSERT INTO conversations (user_id, id, title, message_count, created_at, updated_at)"
        " SELECT id, id, 'A few messages', 5, now(), now() FROM users WHERE email IS NULL AND id NOT IN"
        " (SELECT user_id FROM conversations)",
    )
    run_sql(
        app,
        "INSERT INTO messages (user_id, id, conversation_id, position, role, content, size_bytes, attachment_count,"
        " created_at) SELECT user_id, gen_random_uuid(), id, number, 'user', 'x', 1, 0, now()"
        " FROM conversations, generate_series(1, 5) AS number WHERE id = user_id AND user_id NOT IN"
        " (SELECT user_id FROM messages)",
    )
    analyze(app)
    conversation = ada.conversation()["id"]
    ids = long_chat(conversation, 1000, side=1000)
    place = {"user_id": ada.user_id, "conversation_id": conversation}
    with app.app_context():
        db.session.begin()
        steps: Iterator[None] = iter(())
        if what == "conversation":
            steps = deletion.delete_conversation(**place)
        elif what == "message":
            steps = deletion.delete_message(user_id=ada.user_id, message_id=ids[1])
        elif what == "path":
            active_path.set_active_leaf(**place, message_id=ids[-1])
        else:
            steps = erase_account(user_id=ada.user_id)
        for _ in steps:
            pass
        read = sa.text(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'messages'"
        )
        rows_read = db.session.scalar(read)
        db.session.rollback()
    assert 0 < rows_read < 60 * len(ids)  # a thousand times as many where each step reads all


@pytest.fixture
def batches_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "ROWS_ON_POSTGRES", 10)
    monkeypatch.setattr(bulk, "ROWS_ON_SQLITE", 10)


@pytest.mark.usefixtures("batches_of_ten")
def test_deletion_of_a_message_that_was_interrupted_can_be_repeated(
    app: Flask, ada: Api, long_chat: Insert
) -> None:
    """What is left in between is whole: a shorter branch, and the path ends with it."""
    conversation = ada.conversation()["id"]
    ids = long_chat(conversation, 50, side=5)
    with refusing_to_delete(app, ids[20]):
        assert ada.delete(f"/chat/messages/{ids[1]}").status_code == 500
    left = path_in_tables(app, ada.user_id, conversation)
    assert left == ids[: len(left)]
    assert 20 < len(left) < 50
    place = ada.get(f"/chat/conversations/{conversation}").get_json()
    assert (place["active_leaf_id"], place["message_count"]) == (left[-1], len(left) + 5)
    added = ada.message(conversation, "I did not know")
    assert added["parent_id"] == left[-1]
    assert ada.delete(f"/chat/messages/{ids[1]}").status_code == 204
    assert path_in_tables(app, ada.user_id, conversation) == ids[:1]
    assert ada.get(f"/chat/conversations/{conversation}").get_json()["message_count"] == 6


@pytest.mark.usefixtures("batches_of_ten")
def test_deletion_of_a_conversation_that_was_interrupted_is_seen_by_nobody(
    app: Flask, ada: Api, long_chat: Insert, provider: ScriptedProvider
) -> None:
    chat = Chat.begin(ada, provider)
    first = ada.message(chat.conversation_id, "cuttlefish")
    attachment = ada.attachment(first["id"])
    completion = chat.reply(content="cuttlefish?")
    for number in range(30):
        ada.message(chat.conversation_id, f"squid {number}")
    last = ada.message(chat.conversation_id, "octopus")
    answered = ada.get(f"/chat/conversations/{chat.conversation_id}").headers["ETag"]
    path = f"/chat/conversations/{chat.conversation_id}"
    assert ada.delete(path, headers={"If-Match": '"other"'}).status_code == 412
    assert ada.get(path).headers["ETag"] == answered
    with refusing_to_delete(app, first["id"]):
        assert ada.delete(path).status_code == 500
    left = owned_rows(app, ada.user_id)
    assert 0 < left["messages"] < 33
    assert (left["conversations"], left["attachments"]) == (1, 1)
    for url in (
        path,
        f"{path}/messages",
        f"{path}/messages?branch=all",
        f"{path}/messages?around={first['id']}",
        f"{path}/completions",
        f"/chat/messages/{first['id']}",
        f"/chat/messages/{first['id']}/attachments",
        f"/chat/attachments/{attachment['id']}",
        f"/chat/completions/{completion['id']}",
        f"/chat/completions/{completion['id']}/events",
        f"/chat/search?q=cuttlefish&conversation_id={chat.conversation_id}",
    ):
        assert ada.get(url).status_code == 404, url
    assert ada.get("/chat/conversations").get_json() == []
    assert ada.get("/chat/search?q=cuttlefish").get_json() == []
    assert ada.get("/chat/search?q=cuttlefish&sort=relevance").get_json() == []
    export = ada.get("/chat/export", buffered=True).get_data(as_text=True)
    assert not any(each in export for each in (chat.conversation_id, first["id"], completion["id"]))
    said = {"conversation_id": chat.conversation_id, "role": "user", "content": "Hello?"}
    assert ada.post("/chat/messages", said).status_code == 404
    assert ada.post("/chat/messages", {**said, "parent_id": first["id"]}).status_code == 404
    assert ada.patch(path, {"title": "Other"}).status_code == 404
    assert ada.delete(f"/chat/messages/{first['id']}").status_code == 404
    assert ada.delete(f"/chat/attachments/{attachment['id']}").status_code == 404
    labelled = {"message_id": first["id"], "file_type": "image/png", "file_path": "cat.png"}
    assert ada.post("/chat/attachments", labelled).status_code == 404
    for dry_run in ("true", "false"):
        for parent_id in (None, first["id"]):
            asked = {"content": "Hello?", "parent_id": parent_id}
            assert chat.ask(query=f"?dry_run={dry_run}", **asked).status_code == 404
    assert last["id"]
    assert ada.delete(path).status_code == 404, "It is gone already; what was left goes with this."
    assert owned_rows(app, ada.user_id)["conversations"] == 0


@pytest.mark.parametrize("how", ["again", "purge"])
@pytest.mark.usefixtures("batches_of_ten")
def test_erasure_that_was_interrupted_can_be_repeated_and_is_finished_by_purge(
    only_user: Api, how: str
) -> None:
    """On a database of its own: what other tests have left would be purged in small batches, too."""
    ada, app = only_user, only_user.app
    bob = user_maker(app)()
    ids = filled(ada, ada.conversation()["id"], 50)
    credentials = {"email": ada.user["email"], "password": PASSWORD}
    with refusing_to_delete(app, ids[20]):
        assert ada.delete("/auth/me").status_code == 500
        assert ada.post("/auth/login", credentials).status_code == 401
        assert ada.get("/chat/conversations").get_json() == []
        assert ada.delete("/auth/me").status_code == 500
    assert 20 < owned_rows(app, ada.user_id)["messages"] < 50
    if (
        how == "again"
    ):  # however long ago the login was, which has ended: there is no password left to ask for
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=6)):
            assert ada.delete("/auth/me").status_code == 204
    else:
        assert app.test_cli_runner().invoke(args=["purge"]).exit_code == 0
    assert not any(owned_rows(app, ada.user_id).values())
    assert bob.get("/auth/me").status_code == 200


class refusing_to_delete:
    """A trigger that fails for one message."""

    def __init__(self, app: Flask, message_id: str) -> None:
        self._app, self._id = app, message_id

    def __enter__(self) -> None:
        with self._app.app_context():
            is_postgres = db.engine.dialect.name == "postgresql"
        if is_postgres:
            run_sql(
                self._app,
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'refused'; END$$",
            )
            when = f"WHEN (old.id = '{self._id}') EXECUTE FUNCTION refuse()"
        else:
            when = f"WHEN old.id = '{self._id}' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        run_sql(self._app, f"CREATE TRIGGER refusing BEFORE DELETE ON messages FOR EACH ROW {when}")
        self._drop = ["DROP TRIGGER refusing ON messages", "DROP FUNCTION refuse"] if is_postgres else [
            "DROP TRIGGER refusing"
        ]  # fmt: skip

    def __exit__(self, *exception: object) -> None:
        for statement in self._drop:
            run_sql(self._app, statement)


@pytest.mark.parametrize("what", ["conversation", "answered message", "message above"])
@pytest.mark.parametrize("stays", [False, True])
def test_a_reply_ends_with_what_it_would_belong_to(
    app: Flask, ada: Api, provider: ScriptedProvider, what: str, stays: bool
) -> None:
    chat = Chat.begin(ada, provider)
    go = threading.Event()
    chat.script(openai_stream("a", go, *"bcdef", pause_s=0.1))
    above = ada.message(chat.conversation_id, "above")
    stream = chat.stream(content="Well?")
    stream.until("a")
    answered = chat.completions[0]["parent_id"]
    path = {
        "conversation": f"/chat/conversations/{chat.conversation_id}",
        "answered message": f"/chat/messages/{answered}",
        "message above": f"/chat/messages/{above['id']}",
    }[what]
    assert ada.delete(path).status_code == 204
    go.set()
    if stays:  # the stream ends without a word on how; whoever comes back is told
        assert {event.name for event in stream.rest()} == {"completion.started", "completion.delta"}
    else:
        stream.close()
    wait_for(lambda: ada.get(f"/chat/completions/{stream.id}").status_code == 404)
    rows = owned_rows(app, ada.user_id)
    assert (rows["completions"], rows["completion_pieces"]) == (0, 0)
    if what != "conversation":
        left = [] if what == "message above" else [above["id"]]
        assert path_in_tables(app, ada.user_id, chat.conversation_id) == left
        assert chat.reply(content="Again")["status"] == "completed"


def test_whoever_waits_for_a_deleted_reply_is_told_that_it_is_gone(
    app: Flask, ada: Api, provider: ScriptedProvider
) -> None:
    chat = Chat.begin(ada, provider)

    def delete_meanwhile(request: Any) -> Any:
        assert ada.delete(f"/chat/conversations/{chat.conversation_id}").status_code == 204
        return openai_stream("too", Pause(0.05), " late")

    chat.script(delete_meanwhile)
    refused = chat.ask()
    assert (refused.status_code, refused.get_json()["code"]) == (404, "not_found")
