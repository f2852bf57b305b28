"""Replies whose worker dies, or whose database is away: what came is kept, and nothing is there twice."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.completions import finalize, lease, service, supervisor
from chat_api.completions.checkpoints import save_checkpoints_and_commit
from chat_api.completions.finalize import reap_abandoned_and_commit
from chat_api.completions.registry import EXTENSION
from chat_api.completions.reply_log import TEXT, Chunk
from chat_api.completions.service import CompletionRequest, create_completion_and_commit
from chat_api.completions.supervisor import Supervisor
from chat_api.database import columns
from chat_api.database.columns import TIME_FORMAT, new_id, now
from chat_api.database.session import db
from chat_api.errors import Unavailable
from tests.completions.chat import Chat, Stream, run_sql, wait_for, wait_until_durable
from tests.support.api import Api
from tests.support.provider import Pause, ScriptedProvider, openai_stream

# -- a worker that is taken for dead -------------------------------------------------------------------------


class Abandoned:
    """A reply whose worker did not renew its lease, with "So " of it durable; the worker may come back."""

    def __init__(self, chat: Chat, other_app: Flask, said: str = "So ") -> None:
        self._back = threading.Event()
        texts = [said] if said else []
        chat.script(openai_stream(*texts, self._back, "far", usage=(5, 6)), openai_stream("And on."))
        self.chat, self.elsewhere = chat, chat.on(other_app)
        self.stream = chat.stream(content="A").until(said)
        chat.request()
        wait_until_durable(other_app, self.stream.id, said)
        self._renew_now(other_app)  # so that the supervisor does not do it between what follows
        expire(other_app, self.stream.id)

    def _renew_now(self, other_app: Flask) -> None:
        lease = "SELECT lease_expires_at FROM completions WHERE id = :id"
        before = run_sql(other_app, lease, id=self.stream.id)
        supervisor = self.chat.api.app.extensions[EXTENSION]._supervisor
        supervisor._due.clear()
        wait_for(lambda: run_sql(other_app, lease, id=self.stream.id) != before)

    def come_back(self) -> dict[str, Any]:
        """Let the worker go on to its end, and return what is stored then."""
        self._back.set()
        self.stream.rest()
        return self.elsewhere.get(self.stream.id)


def expire(app: Flask, completion_id: str) -> None:
    run_sql(app, "UPDATE completions SET lease_expires_at = created_at WHERE id = :id", id=completion_id)


def by_get(chat: Chat, completion_id: str) -> None:
    chat.get(completion_id)


def by_events(chat: Chat, completion_id: str) -> None:
    chat.events(completion_id).rest()


def by_cancel(chat: Chat, completion_id: str) -> None:
    assert chat.cancel(completion_id).get_json()["status"] == "incomplete"


def by_another_question(chat: Chat, completion_id: str) -> None:
    assert chat.reply(content="B")["message"]["content"] == "And on."


@pytest.mark.parametrize("look", [by_get, by_events, by_cancel, by_another_question])
def test_the_next_one_to_look_settles_it(
    chat: Chat, other_app: Flask, look: Callable[[Chat, str], None]
) -> None:
    abandoned = Abandoned(chat, other_app)
    look(abandoned.elsewhere, abandoned.stream.id)
    completion = next(each for each in abandoned.elsewhere.completions if each["id"] == abandoned.stream.id)
    assert (completion["status"], completion["finish_reason"]) == ("incomplete", "worker_lost")
    assert completion["message"]["content"] == "So "
    assert completion["usage"]["estimated"] is True
    assert completion["usage"]["total_tokens"] > 0
    problem = completion["problem"]
    assert (problem["type"], problem["status"], problem["code"]) == ("about:blank", 500, "worker_lost")
    assert problem["title"]
    assert problem["detail"]
    assert chat.said[:2] == [("user", "A", "completed"), ("assistant", "So ", "incomplete")]
    if look is by_another_question:
        sent = [message["content"] for message in chat.sent[1].json["messages"]]
        assert sent == ["A", "So ", "B"]
    abandoned.come_back()


def test_a_worker_that_comes_back_still_stores_the_whole_reply(chat: Chat, other_app: Flask) -> None:
    abandoned = Abandoned(chat, other_app)
    finalized = abandoned.elsewhere.get(abandoned.stream.id)
    abandoned.elsewhere.reply(content="B")
    completion = abandoned.come_back()
    assert (completion["status"], completion["message"]["content"]) == ("completed", "So far")
    assert completion["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 6,
        "total_tokens": 11,
        "estimated": False,
    }
    assert completion["problem"] is None
    assert (abandoned.stream.text, abandoned.stream.end.name) == ("So far", "completion.completed")
    for name in ("id", "position"):
        assert completion["message"][name] == finalized["message"][name]
    assert [content for _, content, _ in chat.said] == ["A", "So far", "B", "And on."]


def test_a_reply_that_was_not_begun_leaves_no_message(chat: Chat, other_app: Flask) -> None:
    abandoned = Abandoned(chat, other_app, said="")
    completion = abandoned.elsewhere.get(abandoned.stream.id)
    assert (completion["status"], completion["message"]) == ("incomplete", None)
    assert [role for role, _, _ in chat.said] == ["user"]
    assert abandoned.come_back()["message"]["content"] == "far"


def test_a_reader_elsewhere_is_told(chat: Chat, other_app: Flask) -> None:
    abandoned = Abandoned(chat, other_app)
    reader = abandoned.elsewhere.events(abandoned.stream.id)
    reader.rest()
    assert (reader.text, reader.end.name) == ("So ", "completion.incomplete")
    assert reader.end.content["problem"]["code"] == "worker_lost"
    abandoned.come_back()


def test_who_saw_more_than_was_durable_is_told_the_end(chat: Chat, other_app: Flask) -> None:
    """Its Last-Event-ID is beyond all that was kept, and may be what the end's id would have been."""
    abandoned = Abandoned(chat, other_app)
    for last in (4, 5, 100_000):
        reader = abandoned.elsewhere.events(abandoned.stream.id, last=last)
        assert [event.name for event in reader.rest()] == ["completion.incomplete"]
        assert reader.end.id > last
    abandoned.come_back()


def test_a_cancelled_or_ended_reply_is_not_settled_again(chat: Chat, other_app: Flask) -> None:
    completion = chat.reply()
    expire(other_app, completion["id"])
    assert chat.on(other_app).get(completion["id"]) == completion
    assert chat.reply(content="B")["status"] == "completed"


def test_a_server_looks_by_itself(chat: Chat, other_app: Flask, serve: Any) -> None:
    abandoned = Abandoned(chat, other_app)
    with serve() as server:
        server.extensions[EXTENSION].start_serving()
        wait_for(lambda: chat.completions[0]["status"] == "incomplete", 4)
    assert chat.said[-1] == ("assistant", "So ", "incomplete")
    abandoned.come_back()


def test_a_lease_is_renewed(chat: Chat, other_app: Flask) -> None:
    end = threading.Event()
    chat.script(openai_stream("a", end))
    stream = chat.stream().until("a")
    lease = "SELECT lease_expires_at FROM completions WHERE id = :id"
    first = run_sql(other_app, lease, id=stream.id)
    wait_for(lambda: run_sql(other_app, lease, id=stream.id) > first)
    end.set()
    stream.rest()


@contextmanager
def unreadable(app: Flask, completion_id: str) -> Iterator[None]:
    """Pieces that no worker understands: of a newer version, or damaged."""
    change = "UPDATE completion_pieces SET chunks = {} WHERE completion_id = :id"
    run_sql(app, change.format("'[' || chunks"), id=completion_id)
    try:
        yield
    finally:
        run_sql(app, change.format("substr(chunks, 2)"), id=completion_id)


def test_one_that_cannot_be_settled_stops_no_other(
    chat: Chat, ada: Api, provider: ScriptedProvider, other_app: Flask
) -> None:
    # of two users: a retry finalizes the user's own
    bad, good = (Abandoned(each, other_app) for each in (chat, Chat.begin(ada, provider)))
    with unreadable(other_app, bad.stream.id), other_app.app_context():
        reap_abandoned_and_commit()
    assert good.elsewhere.get(good.stream.id)["status"] == "incomplete"
    for each in (bad, good):
        assert each.come_back()["message"]["content"] == "So far"


def test_a_question_beside_one_that_cannot_be_settled_may_be_asked_again(
    chat: Chat, other_app: Flask
) -> None:
    abandoned = Abandoned(chat, other_app)
    with unreadable(other_app, abandoned.stream.id):
        response = abandoned.elsewhere.ask(content="B")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert abandoned.elsewhere.reply(content="B")["message"]["content"] == "And on."
    abandoned.come_back()


def test_a_reply_whose_thread_fails_leaves_nobody_waiting(
    chat: Chat, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours in the thread itself: the number of its tokens is none that can be stored."""
    chat.script(openai_stream("So far", usage=None))
    registry = app.extensions[EXTENSION]
    request = CompletionRequest(
        user_id=chat.api.user_id,
        conversation_id=chat.conversation_id,
        provider_id=chat.provider_id,
        model=chat.model,
        content="A",
    )
    with app.app_context(), registry.take_slot() as slot:
        completion = create_completion_and_commit(
            request=request, worker_id=registry.worker_id, running_limit=100
        )
        no_number: Any = object()
        run = registry.start(replace(completion, prompt_tokens=no_number), slot)
    assert run.wait(5)
    assert (run.ended, run.lost is not None) == (None, True)
    assert run not in registry.running
    assert "could not be finalized" in caplog.text
    expire(app, completion.id)  # nobody renews its lease any more
    assert chat.get(completion.id)["finish_reason"] == "worker_lost"


# -- a database that is away for a moment -------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient_app(serve: Any) -> Any:
    """A worker that waits for the database for one second."""
    with serve(DATABASE_WAIT_S=1) as application:
        yield application


@contextmanager
def locked(app: Flask) -> Iterator[None]:
    """Nobody else can write, or on Postgres even read, what belongs to replies."""
    with app.app_context(), db.engine.begin() as connection:  # on SQLite this alone takes the lock
        if connection.dialect.name == "postgresql":
            # in the order in which the supervisor takes them, or one of both would be the victim of a deadlock
            tables = "completion_pieces, completions, messages, conversations"
            connection.execute(sa.text(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"))
        yield


def test_while_the_database_is_locked_text_goes_on(
    chat: Chat, impatient_app: Flask, other_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    more, end = threading.Event(), threading.Event()
    impatient_app.extensions[EXTENSION]._supervisor._reports_at.clear()  # of another test's failures
    chat.script(openai_stream("one ", more, "two ", end, "three"))
    stream = chat.on(impatient_app).stream().until("one ")
    with locked(other_app):
        time.sleep(1.5)
        more.set()
        stream.until("one two ")
        wait_for(lambda: "could not be made durable" in caplog.text)
    wait_until_durable(other_app, stream.id, "one two ")
    end.set()
    stream.rest()
    assert (stream.text, stream.end.name) == ("one two three", "completion.completed")
    assert chat.said[-1] == ("assistant", "one two three", "completed")


def test_a_reply_that_ends_while_the_database_is_locked_is_stored_later(
    chat: Chat, impatient_app: Flask, other_app: Flask
) -> None:
    more = threading.Event()
    chat.script(openai_stream("one ", more, "two", usage=(5, 6)))
    stream = chat.on(impatient_app).stream().until("one ")
    with locked(other_app):
        more.set()
        stream.until("one two")
        time.sleep(1.5)
    stream.rest()
    assert stream.end.name == "completion.completed"
    assert chat.get(stream.id)["usage"]["estimated"] is False
    assert [content for _, content, _ in chat.said] == ["Hello", "one two"]


def test_a_table_that_is_missing_for_a_moment_costs_nothing(chat: Chat, other_app: Flask) -> None:
    """Not even a refused statement ends the supervisor: what it could not store it stores the next time."""
    more = threading.Event()
    chat.script(openai_stream("one ", more, "two"))
    run_sql(other_app, "ALTER TABLE completion_pieces RENAME TO missing_pieces")
    try:
        stream = chat.stream().until("one ")
        time.sleep(0.5)
    finally:
        run_sql(other_app, "ALTER TABLE missing_pieces RENAME TO completion_pieces")
    wait_until_durable(other_app, stream.id, "one ")
    more.set()
    stream.rest()
    assert stream.end.content["completion"]["message"]["content"] == "one two"


def test_a_lease_is_renewed_also_while_pieces_cannot_be_stored(chat: Chat, other_app: Flask) -> None:
    more = threading.Event()
    chat.script(openai_stream("one ", more, "two"))
    is_expired = "SELECT 1 FROM completions WHERE id = :id AND lease_expires_at = created_at"
    stream = chat.stream()
    assert stream.id
    run_sql(other_app, "ALTER TABLE completion_pieces RENAME TO missing_pieces")
    try:
        stream.until("one ")
        expire(other_app, stream.id)
        wait_for(lambda: not run_sql(other_app, is_expired, id=stream.id), 5)
    finally:
        run_sql(other_app, "ALTER TABLE missing_pieces RENAME TO completion_pieces")
    more.set()
    stream.rest()
    assert stream.end.name == "completion.completed"


def test_a_start_while_the_database_is_locked_stores_nothing(
    chat: Chat, impatient_app: Flask, other_app: Flask
) -> None:
    with locked(other_app):
        response = chat.on(impatient_app).ask(stream=True)
    assert (response.status_code, response.content_type) == (503, "application/problem+json")
    assert int(response.headers["Retry-After"]) >= 1
    assert (chat.messages, chat.completions, chat.sent) == ([], [], [])


# -- checkpoints --------------------------------------------------------------------------------------------------


def test_pieces_are_gone_when_the_reply_is_a_message(chat: Chat, other_app: Flask) -> None:
    end = threading.Event()
    chat.script(openai_stream("a", end))
    stream = chat.stream().until("a")
    wait_until_durable(other_app, stream.id, "a")
    end.set()
    stream.rest()
    assert checkpoints(other_app, stream) == []


def checkpoints(app: Flask, stream: Stream) -> list[Any]:
    return run_sql(app, "SELECT position FROM completion_pieces WHERE completion_id = :id", id=stream.id)


def test_a_piece_that_comes_late_is_not_kept(chat: Chat, other_app: Flask) -> None:
    """The supervisor saves a checkpoint at the very moment at which another transaction finalizes the reply."""
    end = threading.Event()
    chat.script(openai_stream("a", end))
    stream = chat.stream().until("a")
    wait_until_durable(other_app, stream.id, "a")

    def save() -> None:
        with other_app.app_context():
            save_checkpoints_and_commit([(chat.api.user_id, stream.id, 500, [Chunk(TEXT, "late")])])

    saving = threading.Thread(target=save)
    with other_app.app_context(), db.engine.begin() as connection:
        for statement in (
            "UPDATE completions SET status = 'completed' WHERE id = :id",
            "DELETE FROM completion_pieces WHERE completion_id = :id",
        ):
            connection.execute(sa.text(statement), {"id": stream.id})
        saving.start()
        saving.join(0.3)
    saving.join()
    found = checkpoints(other_app, stream)
    run_sql(other_app, "UPDATE completions SET status = 'in_progress' WHERE id = :id", id=stream.id)
    end.set()
    stream.rest()
    assert found == []


@contextmanager
def checkpoints_refused(app: Flask, completion_id: str) -> Iterator[None]:
    """The database refuses all that is to be saved of this reply, however often it is tried."""
    with app.app_context():
        is_postgres = db.engine.dialect.name == "postgresql"
    on_table = "refused BEFORE INSERT ON completion_pieces"
    if is_postgres:
        run_sql(app, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                     "$$ BEGIN RAISE EXCEPTION 'a part is refused'; END $$")  # fmt: skip
        run_sql(app, f"CREATE TRIGGER {on_table} FOR EACH ROW WHEN (NEW.completion_id = '{completion_id}') "
                     "EXECUTE FUNCTION refuse()")  # fmt: skip
    else:
        run_sql(app, f"CREATE TRIGGER {on_table} WHEN NEW.completion_id = '{completion_id}' "
                     "BEGIN SELECT RAISE(ABORT, 'a part is refused'); END")  # fmt: skip
    try:
        yield
    finally:
        run_sql(app, "DROP TRIGGER refused" + " ON completion_pieces" * is_postgres)
        if is_postgres:
            run_sql(app, "DROP FUNCTION refuse()")


def test_a_checkpoint_that_is_refused_for_good_stops_nothing_else(
    chat: Chat, app: Flask, other_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the other replies' checkpoints, nor leases, nor a cancellation that came through another worker."""
    more, end = threading.Event(), threading.Event()
    app.extensions[EXTENSION]._supervisor._reports_at.clear()  # of another test's failures
    chat.script(openai_stream("one ", more, "two ", end), openai_stream("And ", more, "so ", Pause(60)))
    refused = chat.stream().until("one ")
    other = chat.elsewhere()
    stream = other.stream().until("And ")
    with checkpoints_refused(other_app, refused.id):
        more.set()
        refused.until("one two ")
        wait_until_durable(other_app, stream.id, "And so ")
        wait_for(lambda: "replies could not be made durable: the database refused" in caplog.text)
        assert "completions.checkpoints._SAVE: " in caplog.text
        assert [record.levelname for record in caplog.records if "refused" in record.getMessage()] == [
            "ERROR"
        ]
        lease = "SELECT lease_expires_at FROM completions WHERE id = :id"
        before = run_sql(other_app, lease, id=refused.id)
        app.extensions[EXTENSION]._supervisor._due.clear()
        wait_for(lambda: run_sql(other_app, lease, id=refused.id) != before)
        chat.on(other_app).api.post(f"/chat/completions/{stream.id}/cancel")
        stream.rest()
        assert stream.end.name == "completion.cancelled"
        end.set()
        refused.rest()
        wait_for(lambda: not app.extensions[EXTENSION]._supervisor._checkpoints)
    assert chat.said[-1] == ("assistant", "one two ", "completed")


# -- clocks ---------------------------------------------------------------------------------------------------


def test_a_worker_whose_clock_ran_ahead_is_taken_for_dead_at_once(chat: Chat, app: Flask) -> None:
    """Its lease lasts longer than any that is given now."""
    completion_id = begun_by_a_dead_worker(chat, app)
    lease = (now() + timedelta(hours=1)).strftime(TIME_FORMAT)
    run_sql(app, f"UPDATE completions SET lease_expires_at = '{lease}' WHERE id = :id", id=completion_id)
    completion = chat.get(completion_id)
    assert (completion["status"], completion["finish_reason"]) == ("incomplete", "worker_lost")


def test_the_supervisor_finalizes_it_too(chat: Chat, app: Flask) -> None:
    completion_id = begun_by_a_dead_worker(chat, app)
    lease = (now() + timedelta(hours=1)).strftime(TIME_FORMAT)
    run_sql(app, f"UPDATE completions SET lease_expires_at = '{lease}' WHERE id = :id", id=completion_id)
    with app.app_context():
        reap_abandoned_and_commit()
    [(status,)] = run_sql(app, "SELECT status FROM completions WHERE id = :id", id=completion_id)
    assert status == "incomplete"


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_leases_are_judged_by_one_clock_however_those_of_the_machines_differ(
    chat: Chat, other_app: Flask, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """The machine that looks has another time than the one that writes."""
    chat.script(openai_stream("So ", Pause(60), "far"))
    stream = chat.stream()
    stream.until("So ")
    for module in (columns, lease, service, finalize):
        monkeypatch.setattr(module, "now", lambda: now() + timedelta(seconds=ahead_s), raising=False)
    with other_app.app_context():
        reap_abandoned_and_commit()
    assert chat.on(other_app).get(stream.id)["status"] == "in_progress", "Its worker lives."
    begun = begun_by_a_dead_worker(chat.elsewhere(), other_app)
    assert chat.get(begun)["status"] == "in_progress", "So it would, for all anybody knows."
    expire(other_app, begun)
    assert chat.on(other_app).get(begun)["status"] == "incomplete"
    chat.cancel(stream.id)
    stream.rest()


def test_cancelling_a_reply_without_a_living_worker_ends_it_with_its_text(chat: Chat, app: Flask) -> None:
    """Its lease is not over yet, but nobody obeys."""
    completion_id = begun_by_a_dead_worker(chat, app, said="So far")
    cancelled = chat.cancel(completion_id).get_json()
    assert (cancelled["status"], cancelled["finish_reason"]) == ("cancelled", "cancelled")
    assert (cancelled["problem"], cancelled["message"]["content"]) == (None, "So far")
    assert chat.said[-1] == ("assistant", "So far", "cancelled")


def begun_by_a_dead_worker(chat: Chat, app: Flask, said: str = "So ") -> str:
    request = CompletionRequest(
        user_id=chat.api.user_id,
        conversation_id=chat.conversation_id,
        provider_id=chat.provider_id,
        model="m",
        content="Hello",
    )
    with app.app_context():
        completion = create_completion_and_commit(request=request, worker_id=new_id(), running_limit=9)
        save_checkpoints_and_commit([(chat.api.user_id, completion.id, 0, [Chunk(TEXT, said)])])
    return completion.id


# -- the log --------------------------------------------------------------------------------------------------


def test_failures_that_repeat_are_logged_once_a_minute_with_their_number(
    app: Flask, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise Unavailable("No space left on device.")

    clock = [1000.0]
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: clock[0])
    watched = Supervisor(app.extensions[EXTENSION])
    for _ in range(5 * 120):
        watched._try("save", fail)
        clock[0] += 0.2
    records = [record for record in caplog.records if "could not be made durable" in record.getMessage()]
    assert [record.__dict__["times"] for record in records] == [1, 300]
