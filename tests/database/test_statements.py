"""Compiled statements: whose transaction a statement runs in, and what becomes of its connections."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.auth import throttle
from chat_api.auth.models import ThrottleCounter as Counter
from chat_api.database.columns import UTCDateTime, now
from chat_api.database.dialect import is_postgres
from chat_api.database.session import db
from chat_api.database.statements import (
    EXTENSION,
    IntegrityFailed,
    Statement,
    StatementFailed,
    execute_at_end,
    fetch_pipelined,
    fetch_pipelined_and_commit,
    read_each,
    transaction,
    write_each_and_commit,
    write_together_and_commit,
)
from chat_api.errors import NotFound, Unavailable, is_transient
from tests.conftest import serving
from tests.support.api import Api
from tests.support.uploads import uploaded

Serve = Callable[..., Any]

INSERT = Statement(
    sa.insert(Counter).values(
        key=sa.bindparam("key_"),
        count=sa.bindparam("count_"),
        expires_at=sa.bindparam("at", type_=UTCDateTime),
    )
)
COUNTS = Statement(
    sa.select(Counter.count).where(Counter.key.startswith(sa.bindparam("prefix"))).order_by(Counter.count)
)
BACKEND_PID = Statement(sa.select(sa.func.pg_backend_pid()))
on_postgres = pytest.mark.parametrize("backend", ["postgres"], indirect=True, scope="session")
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True, scope="session")


@pytest.fixture
def prefix() -> str:
    """The beginning of keys that only this test uses."""
    return uuid.uuid4().hex


@pytest.fixture
def serve(database_url: str, tmp_path: Path) -> Serve:
    """Run the service with settings of the test's own, in an application context."""

    @contextmanager
    def serve_in_context(**settings: Any) -> Iterator[Flask]:
        with serving(database_url, tmp_path, **settings) as app, app.app_context():
            yield app

    return serve_in_context


def insert(prefix: str, count: int) -> None:
    INSERT.all(key_=f"{prefix}{count}", count_=count, at=now())


def insert_and_commit(prefix: str, count: int) -> None:
    INSERT.first_and_commit(key_=f"{prefix}{count}", count_=count, at=now())


def counts(prefix: str) -> list[int]:
    """What everybody sees: read on a connection of the pool, outside any transaction of the session."""
    return [row[0] for row in COUNTS.all(prefix=prefix)]


def seen_by_others(app: Flask, prefix: str) -> list[int]:
    def read() -> list[int]:
        with app.app_context():
            return counts(prefix)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(read).result()


def in_a_transaction(*steps: Callable[[], Any]) -> None:
    with transaction():
        for step in steps:
            step()


# -- transactions -----------------------------------------------------------------------------------------


def test_a_write_outside_a_transaction_is_refused(app: Flask, prefix: str) -> None:
    key: Any = sa.bindparam("key_")
    locking = Statement(sa.select(Counter.count).where(Counter.key == key).with_for_update())
    updating = Statement(sa.update(Counter).where(Counter.key == key).values(count=7))
    inserted = sa.insert(Counter).values(key=key, count=1, expires_at=now()).returning(Counter.count)
    in_cte = Statement(sa.select(inserted.cte("inserted").c.count))
    with app.app_context():
        for refused in (locking, updating, *([in_cte] if is_postgres(db.engine) else [])):
            with pytest.raises(RuntimeError, match="Outside a transaction"):
                refused.all(key_=f"{prefix}1")
        with pytest.raises(RuntimeError, match="Outside a transaction"):
            insert(prefix, 1)
        assert counts(prefix) == []


def test_a_write_that_commits_is_refused_inside_a_transaction(app: Flask, prefix: str) -> None:
    with app.app_context():
        with pytest.raises(RuntimeError, match="Inside a transaction"):
            in_a_transaction(lambda: insert_and_commit(prefix, 1))
        db.session.execute(sa.insert(Counter).values(key=f"{prefix}2", count=2, expires_at=now()))
        with pytest.raises(RuntimeError, match="Inside a transaction"):
            insert_and_commit(prefix, 1)
        db.session.rollback()
        assert counts(prefix) == []


def test_a_write_that_commits_is_committed_when_it_returns(app: Flask, prefix: str) -> None:
    with app.app_context():
        insert_and_commit(prefix, 1)
        assert seen_by_others(app, prefix) == [1]
        db.session.rollback()
        assert counts(prefix) == [1]


def test_a_statement_joins_the_sessions_transaction_and_is_rolled_back_with_it(
    app: Flask, prefix: str
) -> None:
    with app.app_context():
        db.session.execute(sa.insert(Counter).values(key=f"{prefix}1", count=1, expires_at=now()))
        insert(prefix, 2)
        with transaction():
            insert(prefix, 3)
        assert counts(prefix) == [1, 2, 3]
        assert seen_by_others(app, prefix) == []
        db.session.rollback()
        assert counts(prefix) == []


def test_a_statement_joins_the_sessions_transaction_and_is_committed_with_it(app: Flask, prefix: str) -> None:
    with app.app_context():
        db.session.execute(sa.insert(Counter).values(key=f"{prefix}1", count=1, expires_at=now()))
        insert(prefix, 2)
        db.session.commit()
        assert seen_by_others(app, prefix) == [1, 2]


def test_a_transaction_commits_at_its_end(app: Flask, prefix: str) -> None:
    with app.app_context():
        with transaction():
            insert(prefix, 1)
            insert(prefix, 2)
            assert counts(prefix) == [1, 2]
            assert seen_by_others(app, prefix) == []
        assert seen_by_others(app, prefix) == [1, 2]


def test_a_transaction_rolls_back_on_an_error(app: Flask, prefix: str) -> None:
    with app.app_context():
        with pytest.raises(ZeroDivisionError):
            in_a_transaction(lambda: insert(prefix, 1), lambda: 1 // 0)
        with pytest.raises(IntegrityFailed):
            in_a_transaction(lambda: insert(prefix, 2), lambda: insert(prefix, 2))
        assert counts(prefix) == []
        insert_and_commit(prefix, 3)  # and the pool goes on
        assert seen_by_others(app, prefix) == [3]


def test_a_transaction_belongs_to_its_thread(app: Flask, prefix: str) -> None:
    with app.app_context(), transaction():
        counts(prefix)
        assert seen_by_others(app, prefix) == []


# -- connections ------------------------------------------------------------------------------------------


def test_a_refused_statement_says_so_without_its_values(app: Flask, prefix: str) -> None:
    with app.app_context():
        insert_and_commit(prefix, 1)
        with pytest.raises(IntegrityFailed) as caught:
            insert_and_commit(prefix, 1)
    assert prefix not in str(caught.value)
    assert str(caught.value).startswith(
        "a statement without a name: "
    )  # as it is of no module of the service


@on_postgres
def test_a_refusal_names_the_statement(serve: Serve) -> None:
    with serve() as app:
        compiled = app.extensions[EXTENSION]._compile(throttle._EXPIRY)
        compiled.sql += " refused"
        with pytest.raises(StatementFailed, match=r"^auth\.throttle\._EXPIRY: SyntaxError: "):
            throttle._EXPIRY.first(key="", moment=now())


@contextmanager
def refusing(app: Flask, prefix: str, sqlstate: str, words: str) -> Iterator[None]:
    """Postgres refuses counters whose keys begin so, in Citus's words."""
    name = f"refuse_{prefix}"
    with app.app_context():
        with db.engine.begin() as connection:
            connection.exec_driver_sql(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN RAISE EXCEPTION '{words}' USING ERRCODE = '{sqlstate}'; END $$"
            )
            connection.exec_driver_sql(
                f"CREATE TRIGGER {name} BEFORE INSERT ON throttle_counters FOR EACH ROW "
                f"WHEN (starts_with(NEW.key, '{prefix}')) EXECUTE FUNCTION {name}()"
            )
        try:
            yield
        finally:
            with db.engine.begin() as connection:
                connection.exec_driver_sql(f"DROP TRIGGER {name} ON throttle_counters")
                connection.exec_driver_sql(f"DROP FUNCTION {name}()")


@on_postgres
@pytest.mark.parametrize(
    ("sqlstate", "words", "passes"),
    [
        ("0A000", "could not run distributed query with FOR UPDATE/SHARE commands", False),
        ("0A000", "cached plan must not change result type", True),
        ("XX000", "failure on connection marked as essential: 10.0.0.2:5432", True),
        ("XX000", "server closed the connection unexpectedly", True),
        ("08006", "connection to the remote node 10.0.0.2:5432 failed with the following error", True),
        ("08006", "could not establish any connections to the node 10.0.0.2:5432 after 30000 ms", True),
        ("XX000", "cache lookup failed for relation 16384", False),
    ],
)
def test_what_passes_of_what_citus_says(
    app: Flask, prefix: str, sqlstate: str, words: str, passes: bool
) -> None:
    with refusing(app, prefix, sqlstate, words):
        with pytest.raises(Unavailable if passes else StatementFailed) as caught:
            insert_and_commit(prefix, 1)
        with pytest.raises(sa.exc.DBAPIError) as met, db.engine.begin() as connection:  # the session's road
            connection.execute(sa.insert(Counter).values(key=prefix, count=1, expires_at=now()))
        assert is_transient(met.value) is passes
    if isinstance(caught.value, Unavailable):
        assert caught.value.headers["Retry-After"] == "1"
    else:
        assert words in str(caught.value)


def test_a_request_waits_no_longer_than_it_is_set_to_for_a_connection(
    serve: Serve, ada: Api, prefix: str
) -> None:
    with serve(
        DATABASE_POOL_SIZE=1, DATABASE_WAIT_S=1, JWT_SECRET_KEY=ada.app.config["JWT_SECRET_KEY"]
    ) as app:
        api = Api(app, ada.token, ada.user)

        def have_another_wait(rows: object) -> float:
            """While this thread reads, and has the only connection."""
            started = time.monotonic()
            with ThreadPoolExecutor(1) as pool:
                response = pool.submit(api.get, f"/chat/conversations/{uuid.uuid4()}").result()
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
            return time.monotonic() - started

        assert 0.9 < COUNTS.read(have_another_wait, prefix=prefix) < 3
        assert api.get(f"/chat/conversations/{uuid.uuid4()}").status_code == 404


def test_a_free_connection_goes_to_whoever_waits_for_it(serve: Serve, prefix: str) -> None:
    with serve(DATABASE_POOL_SIZE=2) as app:

        def write(number: int) -> None:
            with app.app_context():
                insert_and_commit(prefix, number)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(write, range(64)))
        assert counts(prefix) == list(range(64))


def test_errors_use_up_no_connections(serve: Serve, prefix: str) -> None:
    with serve(DATABASE_POOL_SIZE=2, DATABASE_WAIT_S=1):
        insert_and_commit(prefix, 1)
        for _ in range(10):
            with pytest.raises(IntegrityFailed):
                insert_and_commit(prefix, 1)
            with pytest.raises(ZeroDivisionError):
                COUNTS.read(lambda rows: 1 // 0, prefix=prefix)
            with pytest.raises(ZeroDivisionError):
                in_a_transaction(lambda: 1 // 0)
        assert counts(prefix) == [1]


def test_a_reader_may_stop_before_the_end(app: Flask, prefix: str) -> None:
    with app.app_context():
        for number in range(5):
            insert_and_commit(prefix, number)
        assert COUNTS.read(lambda rows: next(iter(rows)), prefix=prefix) == (0,)
        assert COUNTS.first(prefix=prefix) == (0,)
        insert_and_commit(prefix, 5)  # no lock is left behind
        assert counts(prefix) == list(range(6))


@on_postgres
def test_the_pool_keeps_its_connection_and_drops_it_after_an_error(serve: Serve, prefix: str) -> None:
    with serve(DATABASE_POOL_SIZE=1):
        insert_and_commit(prefix, 1)
        first = BACKEND_PID.first()
        assert BACKEND_PID.first() == first
        with pytest.raises(IntegrityFailed):
            insert_and_commit(prefix, 1)
        assert BACKEND_PID.first() != first


def test_the_connection_that_was_used_last_is_used_next(serve: Serve, prefix: str) -> None:
    """Its pages and plans are in the caches, and no more connections are open than were needed at once."""
    with serve(DATABASE_POOL_SIZE=3) as app:
        pool = app.extensions[EXTENSION]
        first, second = pool._take(), pool._take()
        pool._give_back(second)
        pool._give_back(first)
        for _ in range(5):
            counts(prefix)
            taken = pool._take()
            assert taken is first
            pool._give_back(taken)


def end_all_connections(url: str) -> int:
    """What a restart of Postgres does to a worker's idle connections."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        others = "pid <> pg_backend_pid() AND datname = current_database() AND application_name = 'chat-api'"
        query = f"SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE {others}"
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else 0


@on_postgres
def test_neither_a_read_nor_a_write_notices_that_idle_connections_were_ended(
    database_url: str, app: Flask, ada: Api
) -> None:
    conversation = ada.conversation()["id"]
    path = f"/chat/conversations/{conversation}"
    requests: list[Callable[[], Any]] = [
        lambda: ada.get(path),
        lambda: ada.message(conversation),
        lambda: ada.get(f"{path}/messages"),
        ada.conversation,
        lambda: ada.get("/auth/me"),
        lambda: ada.post("/auth/login", {"email": ada.user["email"], "password": "wrong"}),
    ]
    for request in requests:
        ada.get(path)  # something is idle
        assert end_all_connections(database_url) > 0
        response = request()
        assert getattr(response, "status_code", 200) in (200, 401)
    assert ada.get(path).get_json()["message_count"] == 1


@on_postgres
def test_a_connection_that_ends_in_the_middle_is_a_503_and_nothing_is_stored(
    database_url: str, serve: Serve, prefix: str
) -> None:
    with serve(DATABASE_POOL_SIZE=1):
        with pytest.raises(Unavailable):
            in_a_transaction(
                lambda: insert(prefix, 1),
                lambda: end_all_connections(database_url),
                lambda: insert(prefix, 2),
            )
        assert counts(prefix) == []


def test_many_threads_share_the_pool(app: Flask, prefix: str) -> None:
    start = threading.Barrier(16)

    def write(number: int) -> None:
        start.wait()
        with app.app_context(), transaction():
            insert(prefix, number * 2)
            insert(prefix, number * 2 + 1)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(16)))
    with app.app_context():
        assert counts(prefix) == list(range(32))


def test_a_commit_that_fails_behind_the_statement_is_an_error(app: Flask, prefix: str, backend: str) -> None:
    """A deferred constraint is checked at the commit, after Postgres has sent the row of the insert."""
    if backend != "postgres":
        pytest.skip("SQLite has its own COMMIT")
    name = f"deferred_{uuid.uuid4().hex}"
    table = sa.table(name, sa.column("id", sa.Integer), sa.column("parent", sa.Integer))
    orphan = Statement(table.insert().values(id=1, parent=2).returning(table.c.id))
    columns = f"id int PRIMARY KEY, parent int REFERENCES {name} DEFERRABLE INITIALLY DEFERRED"
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.text(f"CREATE TABLE {name} ({columns})"))
    with app.app_context():
        counted = INSERT, {"key_": f"{prefix}1", "count_": 1, "at": now()}
        for _ in range(2):
            with pytest.raises(IntegrityFailed):
                orphan.first_and_commit()
            with pytest.raises(IntegrityFailed):
                fetch_pipelined_and_commit(counted, (orphan, {}))
            assert counts(prefix) == []
        refused, stored = write_each_and_commit([(orphan, {}), counted])
        assert (type(refused), stored) == (IntegrityFailed, None)
        assert counts(prefix) == [1]
        with db.engine.begin() as connection:
            connection.execute(sa.text(f"DROP TABLE {name}"))


def test_a_migration_of_a_hot_table_costs_one_503_at_most(
    database_url: str, backend: str, tmp_path: Path
) -> None:
    """Postgres refuses a prepared statement whose result has another shape now; the next try prepares it anew."""
    if backend != "postgres":
        pytest.skip("SQLite prepares again by itself")
    name = f"migrated_{uuid.uuid4().hex}"
    everything = Statement(sa.select(sa.literal_column("*")).select_from(sa.table(name)))
    with serving(database_url, tmp_path, DATABASE_POOL_SIZE=1) as app, app.app_context():
        for change in (f"CREATE TABLE {name} (id int)", f"ALTER TABLE {name} ADD COLUMN title text"):
            with db.engine.begin() as connection:
                connection.execute(sa.text(change))
            if change.startswith("CREATE"):
                everything.all()
        with pytest.raises(Unavailable):
            everything.all()
        assert everything.all() == []
        with db.engine.begin() as connection:
            connection.execute(sa.text(f"DROP TABLE {name}"))


def test_a_write_that_is_done_with_others_is_a_transaction_of_its_own(app: Flask, prefix: str) -> None:
    def write(number: int) -> int:
        insert(prefix, number)
        return number

    def refuse() -> None:
        insert(prefix, 3)
        raise NotFound("counter")

    with app.app_context():
        assert write_together_and_commit(partial(write, 1)) == 1
        with pytest.raises(IntegrityFailed):
            write_together_and_commit(partial(write, 1))
        with pytest.raises(NotFound):
            write_together_and_commit(refuse)
        with pytest.raises(RuntimeError), transaction():
            write_together_and_commit(partial(write, 2))
        assert counts(prefix) == [1]


@on_sqlite
def test_where_sqlite_ends_the_transaction_nothing_of_it_is_stored(serve: Serve, prefix: str) -> None:
    """As on a full disk. What comes next must not be a transaction of its own."""
    grow = Statement(sa.text("PRAGMA max_page_count = 1").columns(sa.column("pages")))  # to what there is

    def write(count: int) -> None:
        if count == 3:
            grow.all()
        INSERT.all(key_=f"{prefix}{count}{'x' * 100_000 * (count == 3)}", count_=count, at=now())

    with serve() as app, ThreadPoolExecutor(4) as pool:
        insert_and_commit(prefix, 2)

        def run(count: int) -> None:
            with app.app_context():
                write_together_and_commit(partial(write, count))

        batches = app.extensions[EXTENSION]._batches
        with transaction():  # so that all of them come into one
            futures = []
            for count in range(1, 5):  # the second is refused, so each is tried for itself
                futures.append(pool.submit(run, count))
                time.sleep(0.05)
            assert len(batches._waiting) == 4
        errors = [future.exception(10) for future in futures]
        assert isinstance(errors[1], IntegrityFailed)
        assert {type(errors[index]) for index in (0, 2, 3)} == {Unavailable}
        assert counts(prefix) == [2], "Nothing of what was reported as failed."


@on_postgres
def test_the_only_connection_is_enough_to_find_out_whether_tables_are_distributed(
    serve: Serve, prefix: str
) -> None:
    with serve(DATABASE_POOL_SIZE=1, DATABASE_WAIT_S=1):
        fetch_pipelined_and_commit((INSERT, {"key_": prefix, "count_": 1, "at": now()}))
        assert counts(prefix) == [1]


@on_postgres
def test_where_tables_are_distributed_a_transaction_by_itself_begins_with_begin(
    serve: Serve, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Citus would let nodes commit the first statement before the others. Elsewhere what goes out together is one
    transaction without it."""
    for is_distributed in (False, True):
        with serve(DATABASE_POOL_SIZE=1) as app:
            pool = app.extensions[EXTENSION]
            monkeypatch.setattr(pool, "is_distributed", is_distributed)
            fetch_pipelined_and_commit((COUNTS, {"prefix": prefix}), (COUNTS, {"prefix": prefix}))
            connection = pool._take()
            pool._give_back(connection)
            assert ("BEGIN" in connection._names) == is_distributed


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True, scope="session")
def test_one_connection_writes_and_keeps_what_it_has_read(app: Flask, prefix: str) -> None:
    """A connection reads anew what others have written: with one after the other that is nearly all, each time."""
    pool = app.extensions[EXTENSION]
    with app.app_context():
        used = set()
        for number in range(3):
            with transaction():
                insert(prefix, number)
                used.add(pool._in_transaction.connection)
            counts(prefix)
    assert len(used) == 1


DIVIDED = Statement(sa.select(sa.cast(sa.bindparam("text", type_=sa.Text()), sa.Integer()) / sa.literal(0)))


def test_statements_that_go_together_each_have_their_rows_in_order(app: Flask, prefix: str) -> None:
    with app.app_context():
        with transaction():
            insert(prefix, 1)
            found = fetch_pipelined((COUNTS, {"prefix": prefix}), (COUNTS, {"prefix": "nobody"}))
            insert(prefix, 2)
            [again] = fetch_pipelined((COUNTS, {"prefix": prefix}))
        assert found == [[(1,)], []]
        assert again == [(1,), (2,)]
        assert counts(prefix) == [1, 2]


def test_the_first_statements_of_a_transaction_may_go_together(app: Flask, prefix: str) -> None:
    with app.app_context():
        reads = (COUNTS, {"prefix": prefix}), (COUNTS, {"prefix": prefix})
        with pytest.raises(ZeroDivisionError):  # rolled back: they were inside of it
            in_a_transaction(lambda: fetch_pipelined(*reads), lambda: insert(prefix, 1), lambda: 1 / 0)
        assert counts(prefix) == []


@on_postgres
def test_one_of_several_that_fails_undoes_the_transaction(app: Flask, prefix: str) -> None:
    with app.app_context():
        reads = (COUNTS, {"prefix": prefix}), (DIVIDED, {"text": "1"}), (COUNTS, {"prefix": prefix})
        with pytest.raises(StatementFailed, match="division by zero"):
            in_a_transaction(lambda: insert(prefix, 1), lambda: fetch_pipelined(*reads))
        assert counts(prefix) == []
        insert_and_commit(prefix, 2)
        assert counts(prefix) == [2]


@on_postgres
def test_a_transaction_whose_first_statement_is_refused_is_rolled_back(app: Flask, prefix: str) -> None:
    def refuse() -> None:
        try:
            insert(prefix, 1)
        except IntegrityFailed:
            raise NotFound("counter") from None

    with app.app_context():
        insert_and_commit(prefix, 1)
        for _ in range(app.extensions[EXTENSION]._size):  # whichever connection comes next
            with pytest.raises(NotFound):
                in_a_transaction(refuse)
            assert counts(prefix) == [1]


def test_statements_go_together_in_the_sessions_transaction(app: Flask, prefix: str) -> None:
    with app.app_context():
        db.session.execute(sa.select(sa.literal(1)))
        insert(prefix, 1)
        assert fetch_pipelined((COUNTS, {"prefix": prefix})) == [[(1,)]]
        db.session.rollback()
        assert counts(prefix) == []


def test_statements_go_together_in_transactions_only(app: Flask, prefix: str) -> None:
    with app.app_context(), pytest.raises(RuntimeError):
        fetch_pipelined((COUNTS, {"prefix": prefix}))


def insertion(prefix: str, count: int) -> tuple[Statement, dict[str, Any]]:
    return INSERT, {"key_": f"{prefix}{count}", "count_": count, "at": now()}


def test_statements_that_are_a_transaction_are_committed_and_see_each_other(app: Flask, prefix: str) -> None:
    with app.app_context():
        found = fetch_pipelined_and_commit(
            insertion(prefix, 1), (COUNTS, {"prefix": prefix}), insertion(prefix, 2)
        )
        assert found == [[], [(1,)], []]
        assert seen_by_others(app, prefix) == [1, 2]


def test_statements_that_are_a_transaction_are_undone_together(app: Flask, prefix: str) -> None:
    with app.app_context():
        with pytest.raises(IntegrityFailed):
            fetch_pipelined_and_commit(
                insertion(prefix, 1), insertion(prefix, 2), insertion(prefix, 1), insertion(prefix, 3)
            )
        assert counts(prefix) == []
        fetch_pipelined_and_commit(insertion(prefix, 4))
        assert counts(prefix) == [4]


def test_statements_that_are_a_transaction_stand_in_no_other(app: Flask, prefix: str) -> None:
    with app.app_context(), transaction(), pytest.raises(RuntimeError):
        fetch_pipelined_and_commit(insertion(prefix, 1))


def test_writes_that_have_nothing_to_do_with_each_other_are_each_stored_or_refused(
    app: Flask, prefix: str
) -> None:
    with app.app_context():
        insert_and_commit(prefix, 250)
        errors = write_each_and_commit([insertion(prefix, count) for count in range(500)])
        assert [bool(error) for error in errors] == [count == 250 for count in range(500)]
        assert isinstance(errors[250], IntegrityFailed)
        assert counts(prefix) == list(range(500))
        assert write_each_and_commit([]) == []
        assert write_each_and_commit([insertion(prefix, 500)]) == [None]


@on_postgres
def test_a_locked_row_keeps_no_other_write_waiting(app: Flask, prefix: str) -> None:
    """As of a reply whose conversation somebody deletes: those of others are made durable, and keep their leases."""
    locked = f"{prefix}1"
    with app.app_context():
        write_each_and_commit([insertion(prefix, count) for count in range(3)])
        update = Statement(sa.update(Counter).where(Counter.key == sa.bindparam("key_")).values(count=7))
        with db.engine.begin() as connection:
            rows = sa.select(Counter.key).where(Counter.key == locked)
            connection.execute(rows.with_for_update())
            began = time.monotonic()
            errors = write_each_and_commit([(update, {"key_": f"{prefix}{count}"}) for count in range(3)])
            assert time.monotonic() - began < app.config["DATABASE_WAIT_S"]
        assert errors[0] is errors[2] is None
        assert isinstance(errors[1], Unavailable)
        assert counts(prefix) == [1, 7, 7]
        [waiting] = Statement(sa.select(sa.func.current_setting("lock_timeout"))).all()
        assert waiting == (f"{app.config['DATABASE_WAIT_S']}s",)


def test_reads_that_have_nothing_to_do_with_each_other_each_have_their_rows(app: Flask, prefix: str) -> None:
    with app.app_context():
        write_each_and_commit([insertion(prefix, count) for count in range(3)])
        reads = [(COUNTS, {"prefix": f"{prefix}{count}"}) for count in (2, 9, 0, 1)] * 100
        assert read_each(reads) == [[(2,)], [], [(0,)], [(1,)]] * 100


@on_postgres
def test_a_read_that_is_refused_costs_the_others_nothing(app: Flask, prefix: str) -> None:
    with app.app_context():
        insert_and_commit(prefix, 1)
        first, refused, last = read_each(
            [(COUNTS, {"prefix": prefix}), (DIVIDED, {"text": "1"}), (COUNTS, {"prefix": prefix})]
        )
        assert (first, last) == ([(1,)], [(1,)])
        assert isinstance(refused, StatementFailed)


def test_a_transaction_without_a_statement_is_none(app: Flask, prefix: str) -> None:
    with app.app_context():
        with transaction():
            pass
        with transaction():
            insert(prefix, 1)
        assert counts(prefix) == [1]


def insert_if_new(prefix: str, count: int) -> None:
    with suppress(IntegrityFailed):
        insert(prefix, count)


@on_postgres
def test_a_transaction_that_goes_on_after_a_failure_is_not_committed(app: Flask, prefix: str) -> None:
    """Postgres rolls such a one back, and reports no error: it must not be taken for stored."""
    with app.app_context():
        insert_and_commit(prefix, 1)
        with pytest.raises(StatementFailed):
            in_a_transaction(lambda: insert(prefix, 2), lambda: insert_if_new(prefix, 1))
        assert counts(prefix) == [1]


def insert_last(prefix: str, count: int) -> None:
    execute_at_end(INSERT, key_=f"{prefix}{count}", count_=count, at=now())


def test_the_last_statement_of_a_transaction_is_committed_with_it(app: Flask, prefix: str) -> None:
    with app.app_context():
        with transaction():
            insert(prefix, 1)
            insert_last(prefix, 2)
        with transaction():
            insert_last(prefix, 3)
        assert counts(prefix) == [1, 2, 3]
        with pytest.raises(ZeroDivisionError):
            in_a_transaction(lambda: insert_last(prefix, 4), lambda: 1 / 0)
        with transaction():
            insert(prefix, 5)
        assert counts(prefix) == [1, 2, 3, 5]


def test_a_last_statement_that_is_refused_undoes_the_transaction(app: Flask, prefix: str) -> None:
    with app.app_context():
        insert_and_commit(prefix, 1)
        with pytest.raises(IntegrityFailed):
            in_a_transaction(lambda: insert(prefix, 2), lambda: insert_last(prefix, 1))
        assert counts(prefix) == [1]


def test_a_last_statement_joins_the_sessions_transaction(app: Flask, prefix: str) -> None:
    with app.app_context():
        db.session.execute(sa.select(sa.literal(1)))
        with transaction():
            insert_last(prefix, 1)
        db.session.rollback()
        assert counts(prefix) == []


@on_postgres
@pytest.mark.parametrize("ending", ["together", "last", "nothing"])
def test_a_connection_that_ends_before_a_pipeline_is_a_503_and_nothing_is_stored(
    database_url: str, serve: Serve, prefix: str, ending: str
) -> None:
    steps: dict[str, Callable[[], Any]] = {
        "together": lambda: fetch_pipelined((COUNTS, {"prefix": prefix}), (COUNTS, {"prefix": prefix})),
        "last": lambda: insert_last(prefix, 2),
        "nothing": lambda: None,  # but COMMIT
    }
    with serve(DATABASE_POOL_SIZE=1, DATABASE_WAIT_S=1):
        with pytest.raises(Unavailable):
            in_a_transaction(
                lambda: insert(prefix, 1), lambda: end_all_connections(database_url), steps[ending]
            )
        assert counts(prefix) == []  # on the one place that there is


def refuse() -> None:
    raise NotFound("thing")


@on_postgres
def test_a_refusal_of_ours_undoes_the_transaction_and_keeps_the_connection(serve: Serve, prefix: str) -> None:
    with serve(DATABASE_POOL_SIZE=1):
        [connection] = BACKEND_PID.all()
        for steps in ([lambda: insert(prefix, 1), refuse], [refuse]):
            with pytest.raises(NotFound):
                in_a_transaction(*steps)
        assert BACKEND_PID.all() == [connection]
        assert counts(prefix) == []


def test_a_refusal_of_ours_lets_the_next_one_write(serve: Serve, prefix: str) -> None:
    with serve(DATABASE_POOL_SIZE=1):
        with pytest.raises(NotFound):
            in_a_transaction(lambda: insert(prefix, 1), lambda: insert_last(prefix, 2), refuse)
        insert_and_commit(prefix, 3)
        assert counts(prefix) == [3]


def test_a_request_that_reads_takes_one_connection(app: Flask, ada: Api) -> None:
    """However many statements it runs: those who hold one and wait for another would wait for each other."""
    message = ada.message(ada.conversation()["id"])
    path = f"/chat/attachments/{uploaded(ada, message_id=message['id'])['id']}"
    held: list[int] = []
    with app.app_context():
        pool = db.engine.pool
    before = pool.checkedout()  # type: ignore[attr-defined]

    def note(*_: object) -> None:
        held.append(pool.checkedout() - before)  # type: ignore[attr-defined]

    sa.event.listen(pool, "checkout", note)
    try:
        for wanted in (path, f"{path}/content", f"/chat/messages/{message['id']}/attachments?after=5"):
            assert ada.get(wanted).status_code == 200
        draft = uploaded(ada, b"a draft", name="a.txt", claimed="")
        held.clear()
        assert ada.get(f"/chat/attachments/{draft['id']}").status_code == 200  # two statements
    finally:
        sa.event.remove(pool, "checkout", note)
    assert max(held) == 1
