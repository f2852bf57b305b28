"""SQLite's only writer: transactions of SQLAlchemy and of compiled statements take turns, and none polls for it."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.auth.models import ThrottleCounter as Counter
from chat_api.database.columns import now
from chat_api.database.group_commit import GroupCommit
from chat_api.database.session import db
from chat_api.database.statements import EXTENSION, transaction
from chat_api.errors import Unavailable
from tests.conftest import serving
from tests.database.test_statements import counts, insert, insert_and_commit, on_sqlite
from tests.live.client import wait_until

pytestmark = on_sqlite


@pytest.fixture
def prefix() -> str:
    """The beginning of keys that only this test uses."""
    return uuid.uuid4().hex


@pytest.fixture
def served(database_url: str, tmp_path: Path) -> Iterator[Flask]:
    """The application with a queue of its own."""
    with serving(database_url, tmp_path, DATABASE_WAIT_S=1) as app, app.app_context():
        yield app


@pytest.fixture
def queue(served: Flask) -> GroupCommit:
    queue: GroupCommit = served.extensions[EXTENSION]._writers
    return queue


def row(prefix: str, count: int) -> sa.Insert:
    return sa.insert(Counter).values(key=f"{prefix}{count}", count=count, expires_at=now())


def by_session(app: Flask, prefix: str, count: int) -> None:
    with app.app_context():
        db.session.execute(row(prefix, count))
        db.session.commit()


def by_engine(app: Flask, prefix: str, count: int) -> None:
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(row(prefix, count))


def by_statement(app: Flask, prefix: str, count: int) -> None:
    with app.app_context():
        insert_and_commit(prefix, count)


WAYS = [by_session, by_engine, by_statement]


@pytest.mark.parametrize("write", WAYS[:2])
def test_one_of_sqlalchemy_waits_in_the_queue(
    served: Flask, queue: GroupCommit, prefix: str, write: Any
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with transaction():
            insert(prefix, 1)
            waiting = pool.submit(write, served, prefix, 2)
            wait_until(lambda: queue._waiting == 1)
        waiting.result(5)  # it has also committed what was left to it
        assert counts(prefix) == [1, 2]


@pytest.mark.parametrize("write", WAYS)
def test_all_wait_for_one_of_sqlalchemy(served: Flask, queue: GroupCommit, prefix: str, write: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        with db.engine.begin() as connection:
            connection.execute(row(prefix, 1))
            waiting = pool.submit(write, served, prefix, 2)
            wait_until(lambda: queue._waiting == 1)
        waiting.result(5)
        assert counts(prefix) == [1, 2]


def test_the_turn_ends_with_its_transaction(served: Flask, queue: GroupCommit, prefix: str) -> None:
    with db.engine.connect() as connection:  # which is kept
        for count in (1, 2):
            connection.execute(row(prefix, count))
            assert queue._is_taken
            connection.commit()
            assert not queue._is_taken
        connection.execute(row(prefix, 3))
        connection.rollback()
        assert not queue._is_taken
        connection.execute(row(prefix, 4))
        connection.invalidate()
        assert not queue._is_taken
    assert counts(prefix) == [1, 2]


def test_the_turn_ends_where_another_process_has_the_lock(
    served: Flask, queue: GroupCommit, prefix: str
) -> None:
    driver = db.engine.raw_connection()
    try:
        driver.driver_connection.execute("BEGIN IMMEDIATE")  # type: ignore[union-attr]
        with pytest.raises(sa.exc.OperationalError):
            by_session(served, prefix, 1)
        assert not queue._is_taken
    finally:
        driver.close()
    by_session(served, prefix, 1)


def test_who_waits_too_long_is_told(served: Flask, queue: GroupCommit, prefix: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        with transaction():
            began = time.monotonic()
            with pytest.raises(Unavailable):
                pool.submit(by_session, served, prefix, 1).result(10)
            assert time.monotonic() - began < 3
        by_session(served, prefix, 2)
        assert counts(prefix) == [2]
