"""On Postgres groups of conversations are stored by other threads while the next ones are read."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.dialect import is_postgres
from chat_api.database.session import db
from chat_api.errors import Unavailable
from chat_api.server import lifecycle
from chat_api.transfer import conversation_importer, group_writer, service
from tests.support.api import Api
from tests.transfer.exports import Line, conversation, file_of, imported, message, rows_of, whole

GROUPS = 12


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each conversation with two messages is a group."""
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", 3)


@pytest.fixture
def on_postgres(app: Flask) -> Flask:
    with app.app_context():
        if not is_postgres(db.engine):
            pytest.skip("SQLite has one writer.")
    return app


@contextmanager
def nobody_inserts(app: Flask) -> Iterator[None]:
    """Whoever inserts a conversation waits until the end of the block."""
    with app.app_context(), db.engine.connect() as connection:
        connection.execute(sa.text("LOCK TABLE conversations IN SHARE MODE"))
        yield
        connection.rollback()


def waiting(app: Flask) -> int:
    """How many connections wait for that."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with app.app_context(), db.engine.connect() as connection:
        return int(connection.scalar(sa.text(query)) or 0)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 4  # less than the import waits for a lock
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def import_in_thread(app: Flask, user: Api, file: io.BytesIO) -> Any:
    """The report of an import that is committed step by step."""
    with app.app_context():
        report, steps = service.import_file(user_id=user.user_id, file=file)
        for _ in steps:
            db.session.commit()
    return report


def groups_of(count: int) -> list[list[Line]]:
    return [whole(2) for _ in range(count)]


def place_in(content: bytes, talks: list[list[Line]], number: int) -> int:
    """Where in the file a conversation begins."""
    return content.index(str(talks[number][0]["id"]).encode())


def test_next_groups_are_read_while_two_are_stored(on_postgres: Flask, ada: Api) -> None:
    """The third is complete by then, and waits: no more of the file is in memory."""
    talks = groups_of(GROUPS)
    content = file_of(*(line for talk in talks for line in talk))
    file = io.BytesIO(content)
    with ThreadPoolExecutor(1) as pool:
        with nobody_inserts(on_postgres):
            outcome = pool.submit(import_in_thread, on_postgres, ada, file)
            wait_until(lambda: waiting(on_postgres) == 2)
            wait_until(lambda: file.tell() > place_in(content, talks, 3))
            time.sleep(0.2)
            assert file.tell() <= place_in(content, talks, 4)
            assert waiting(on_postgres) == 2
        report = outcome.result()
    assert (report.imported["conversation"], report.errors) == (GROUPS, [])
    assert len(rows_of(on_postgres, ada.user_id)["messages"]) == 2 * GROUPS


def test_only_some_imports_use_a_second_connection(
    on_postgres: Flask, make_user: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(on_postgres.config, "DATABASE_POOL_SIZE", group_writer.EXTRA_SHARE)
    users = [make_user() for _ in range(3)]
    with ThreadPoolExecutor(len(users)) as pool:
        with nobody_inserts(on_postgres):
            outcomes = [
                pool.submit(
                    import_in_thread,
                    on_postgres,
                    user,
                    io.BytesIO(file_of(*(line for talk in groups_of(GROUPS) for line in talk))),
                )
                for user in users
            ]
            wait_until(lambda: waiting(on_postgres) == len(users) + 1)
            time.sleep(0.2)
            assert waiting(on_postgres) == len(users) + 1
        assert [outcome.result().imported["message"] for outcome in outcomes] == [2 * GROUPS] * len(users)
    assert group_writer._extra_connections._taken == 0


def test_an_id_in_two_groups_at_once_belongs_to_the_first(app: Flask, ada: Api) -> None:
    """A message's, a conversation's, and a name that a client has given."""
    for _ in range(5):
        talks = groups_of(6)
        talks[2][1]["id"] = talks[2][2]["parent_id"] = talks[1][1]["id"]
        talks[4] = [*talks[3], message(talks[3][0], 3, talks[3][2])]
        report = imported(ada, file_of(*(line for talk in talks for line in talk)))
        assert [error["conversation_id"] for error in report["errors"]] == [talks[2][0]["id"]]
        counts = report["conversations"]
        assert (counts["imported"], counts["updated"], counts["failed"]) == (4, 1, 1)
    for _ in range(5):
        first, second = (page() for _ in range(2))
        assert imported(ada, file_of(*first, *second))["errors"] == []
        names = {row["id"]: row["external_id"] for row in rows_of(app, ada.user_id)["conversations"]}
        assert (names[first[0]["id"]], names[second[0]["id"]]) == ("page", None)
        assert ada.delete(f"/chat/conversations/{first[0]['id']}").status_code == 204


def page() -> list[Line]:
    """A conversation that its client calls something, as another one."""
    first = conversation(external_id="page")
    one = message(first, 1)
    return [first, one, message(first, 2, one)]


def test_quota_is_counted_in_the_order_of_the_file(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also beside groups that are not stored yet."""
    monkeypatch.setitem(app.config, "MAX_MESSAGES_PER_USER", 9)
    talks = groups_of(8)
    report = imported(ada, file_of(*(line for talk in talks for line in talk)))
    assert [error["conversation_id"] for error in report["errors"]] == [talk[0]["id"] for talk in talks[4:]]
    stored = {row["id"] for row in rows_of(app, ada.user_id)["conversations"]}
    assert stored == {talk[0]["id"] for talk in talks[:4]}


def test_nothing_is_left_running_when_the_server_stops(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored stays, and the rest can be imported."""
    content = file_of(*(line for talk in groups_of(GROUPS) for line in talk))
    with monkeypatch.context() as stopping:
        stopping.setattr(lifecycle._process, "deadline", 0.0)
        with pytest.raises(Unavailable):
            import_in_thread(app, ada, io.BytesIO(content))
    require_nothing_running(app)
    require_the_rest(app, ada, content)


def test_nothing_is_left_running_after_an_error_of_a_thread(on_postgres: Flask, ada: Api) -> None:
    content = file_of(*(line for talk in groups_of(GROUPS) for line in talk))
    with ThreadPoolExecutor(1) as pool:
        with nobody_inserts(on_postgres):
            outcome = pool.submit(import_in_thread, on_postgres, ada, io.BytesIO(content))
            wait_until(lambda: waiting(on_postgres) == 2)
            end_one_that_waits(on_postgres)
        with pytest.raises(sa.exc.OperationalError):
            outcome.result()
    require_nothing_running(on_postgres)
    require_the_rest(on_postgres, ada, content)


def end_one_that_waits(app: Flask) -> None:
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database() LIMIT 1"
    )
    with app.app_context(), db.engine.connect() as connection:
        connection.execute(sa.text(query))


def require_the_rest(app: Flask, user: Api, content: bytes) -> None:
    report = import_in_thread(app, user, io.BytesIO(content))
    assert report.errors == []
    assert len(rows_of(app, user.user_id)["messages"]) == 2 * GROUPS


def require_nothing_running(app: Flask) -> None:
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("import")]
    with app.app_context():
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert group_writer._extra_connections._taken == 0
