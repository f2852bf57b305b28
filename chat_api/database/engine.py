"""How connections to SQLite and Postgres are set up, so that what is acknowledged is on disk and owned."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from .chaining import chained
from .dialect import is_postgres
from .folding import folded

ANSWER_DELAY_S = 1  # a server that keeps its own timeouts has answered so long after them


class SqliteConnection(sqlite3.Connection):
    """One that was opened while its file could not be written is read-only for ever, whatever the disk is by then."""

    path = ""  # of its file; empty in memory
    is_read_only = False
    end_turn: Callable[[], None] | None = None  # lets other writers of the process go on

    def commit(self) -> None:
        """End the transaction, and with it the turn.

        What can't be stored is undone here: after a COMMIT that failed (a full disk), SQLAlchemy sends no ROLLBACK.
        """
        try:
            super().commit()
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                super().rollback()
            raise
        finally:
            self.end_turn_if_over()

    def rollback(self) -> None:
        """End the transaction, and with it the turn."""
        try:
            super().rollback()
        finally:
            self.end_turn_if_over()

    def close(self) -> None:
        """End whatever has not ended."""
        try:
            super().close()
        finally:
            self._end_turn()

    def end_turn_if_over(self) -> None:
        """Let others write, where no transaction is open."""
        if not self.in_transaction:
            self._end_turn()

    def _end_turn(self) -> None:
        end, self.end_turn = self.end_turn, None
        if end is not None:
            end()

    def note_path(self) -> None:
        """Find out about its file, as soon as it is open."""
        self.path = self.execute("PRAGMA database_list").fetchone()[2]
        self.is_read_only = bool(self.path) and not os.access(self.path, os.W_OK)

    @property
    def is_outdated(self) -> bool:
        """Whether a new connection could write, and this one can't."""
        return self.is_read_only and os.access(self.path, os.W_OK)


def options(url: str, *, pool_size: int, wait_s: int, statement_timeout_s: int) -> dict[str, Any]:
    """Engine options for a database URL. No wait is longer than it says here; times are in seconds."""
    shared: dict[str, Any] = {"hide_parameters": True, "pool_timeout": wait_s, "pool_size": pool_size}
    if url.startswith("sqlite"):
        # autocommit in the driver: transactions begin where we say so, see _begin_on_sqlite
        connect_args: dict[str, Any] = {
            "timeout": wait_s,
            "isolation_level": None,
            "check_same_thread": False,
            "factory": SqliteConnection,
        }
        return shared | {"connect_args": connect_args}
    session_settings: dict[str, str] = {
        "timezone": "UTC",
        "statement_timeout": f"{statement_timeout_s}s",
        "lock_timeout": f"{wait_s}s",
        "idle_in_transaction_session_timeout": "60s",
    }
    connect_args = {
        "connect_timeout": wait_s,
        "options": " ".join(f"-c {name}={value}" for name, value in session_settings.items()),
        "application_name": "chat-api",
        # a server that vanishes without a word is noticed in seconds, not in the two hours of TCP
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": wait_s * 1000,
        "prepare_threshold": 0,
    }
    # pre_ping: the ordinary road finds out about a restarted server before it writes
    return shared | {"max_overflow": 0, "pool_pre_ping": True, "connect_args": connect_args}


def prepare(engine: sa.Engine, *, wait_s: int, statement_timeout_s: int) -> None:
    """Install the connection set-up on an engine; called once, before the first connection."""
    if not is_postgres(engine):
        sa.event.listen(engine, "connect", lambda driver, record: _set_up_sqlite(driver, wait_s))
        sa.event.listen(engine, "begin", _begin_on_sqlite)
        sa.event.listen(engine, "checkin", _count_on_sqlite)
        sa.event.listen(engine, "checkout", _reconnect_where_outdated)
    else:
        from .postgres_driver import bounded_connections

        connection_class = bounded_connections(statement_timeout_s + ANSWER_DELAY_S)
        sa.event.listen(
            engine, "do_connect", lambda dialect, record, args, kw: connection_class.connect(*args, **kw)
        )
        sa.event.listen(engine, "connect", lambda driver, record: _set_up_postgres(driver))


# by the dialect of an engine, which its copies share
_queues: "WeakKeyDictionary[sa.Dialect, WriterQueue]" = WeakKeyDictionary()


class WriterQueue(Protocol):
    """Who writes to SQLite in this process, one after the other."""

    def begin_alone(self) -> None:
        """Wait for the turn. Raises Unavailable."""

    def end_alone(self) -> None:
        """Let the next one write."""


def queue_writers(engine: sa.Engine, queue: WriterQueue) -> None:
    """Have each transaction of SQLAlchemy that writes to SQLite wait for its turn in this process.

    Otherwise its threads would poll SQLite's lock in growing steps of up to 100 ms, and whoever polls seldom would
    wait for all that come later.
    """
    _queues[engine.dialect] = queue


# the same one each time: a session keeps a connection for each engine that it meets, and a copy is another one to it
@lru_cache(maxsize=64)
def reading(engine: sa.Engine) -> sa.Engine:
    """The same engine and pool without transactions, for requests that only read."""
    if not is_postgres(engine):
        return engine.execution_options(reads_only=True)
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _set_up_sqlite(driver: SqliteConnection, wait_s: int) -> None:
    """FULL: in WAL mode an acknowledged commit survives a power cut (SQLite documentation, pragma.html)."""
    for pragma in (
        f"busy_timeout = {wait_s * 1000}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        # triggers keep the search index, and SQLite 3.40 lets them use FTS5 in a trusted schema only: this one is ours
        "trusted_schema = ON",
    ):
        driver.execute(f"PRAGMA {pragma}")
    driver.create_function("folded", 1, folded, deterministic=True)
    driver.create_function("chained", 2, chained, deterministic=True)
    driver.note_path()


def _reconnect_where_outdated(driver: SqliteConnection, record: Any, proxy: Any) -> None:
    if driver.is_outdated:
        raise sa.exc.DisconnectionError()


class _Written(threading.local):
    """How long this thread has had SQLite's only writer's lock, in seconds, since it began."""

    seconds = 0.0


_written = _Written()
_LOCKED_AT = "chat_api.locked_at"  # in what is known of a connection


def locked_s() -> float:
    """How long this thread has kept SQLite's other writers waiting, by transactions of SQLAlchemy, since it began."""
    return _written.seconds


def _begin_on_sqlite(connection: sa.Connection) -> None:
    """IMMEDIATE takes the write lock at once: a reader that turns into a writer would fail or lose updates."""
    if not connection.get_execution_options().get("reads_only"):
        driver: Any = connection.connection.driver_connection
        if (queue := _queues.get(connection.dialect)) is not None:
            queue.begin_alone()
            driver.end_turn = queue.end_alone
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            driver.end_turn_if_over()
            raise
        connection.info[_LOCKED_AT] = time.monotonic()


def _count_on_sqlite(driver: Any, record: Any) -> None:
    """The connection comes back after its transaction has ended."""
    locked_at = record.info.pop(_LOCKED_AT, None)
    if locked_at is not None:
        _written.seconds += time.monotonic() - locked_at


# Also set where it is the default already: a session follows its server's configuration when that is loaded again.
_COMMIT_DURABLY = """
    SELECT set_config('synchronous_commit', CASE WHEN kept IN ('off', 'local') THEN 'on' ELSE kept END, false)
    FROM current_setting('synchronous_commit') AS kept
"""


def _set_up_postgres(driver: Any) -> None:
    """A commit is acknowledged when it is on disk, whatever the server's default is or becomes; stronger ones stay."""
    was_autocommit = driver.autocommit
    driver.autocommit = True
    driver.execute(_COMMIT_DURABLY)
    driver.autocommit = was_autocommit
