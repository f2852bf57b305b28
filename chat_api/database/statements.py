"""The fast lane: a SQLAlchemy statement compiled once per database and run on the driver itself.

Only for the hot paths; everything else uses `db.session`. SQLAlchemy's execution costs several times what the
driver needs for such a statement (`docs/decisions.md` has the figures), while its constructs keep the tables
described in one place. Only `drivers.py` below this knows the drivers.

A statement runs in a transaction of its own (autocommit), on a connection of the lane. When the request
has a transaction open in `db.session`, it joins that one instead.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from ..errors import DRIVER_ERRORS, ApiError, Unavailable, describe, is_passing
from .drivers import INTEGRITY_ERRORS, Connection, CursorConnection, PreparedConnection, Result, Row
from .engine import ANSWER_DELAY_S
from .session import db

EXTENSION = "chat_api.statements"


class Statement:
    """A statement of the hot path. Parameters are the names of its bindparams.

    Built from a SQLAlchemy construct, or from a function of the dialect's name where the databases need
    different constructs (an upsert).
    """

    def __init__(self, construct: sa.Executable | Callable[[str], sa.Executable]) -> None:
        self._construct = construct

    def for_dialect(self, dialect_name: str) -> sa.Executable:
        """The construct for this database."""
        return self._construct(dialect_name) if callable(self._construct) else self._construct

    def all(self, **parameters: Any) -> list[Row]:
        """Run it and return its rows, in the driver's types."""
        return _lane().run(self, parameters, list)

    def first(self, **parameters: Any) -> Row | None:
        """Run it and return its first row, or None."""
        return _lane().run(self, parameters, _first)

    def read(self, reader: Callable[[Iterable[Row]], Result], **parameters: Any) -> Result:
        """Run it and return what the reader makes of its rows. The reader may stop before their end."""
        return _lane().run(self, parameters, reader)


def read_together(*calls: tuple[Statement, Mapping[str, Any]]) -> list[list[Row]]:
    """Run statements one after the other, each with its parameters; on Postgres in one round trip.

    Each sees what was committed before it began, so the first may take a lock for the others.
    """
    return _lane().run_together(calls)


def run_last(statement: Statement, **parameters: Any) -> None:
    """Run a statement without rows as the last one of this thread's transaction; on Postgres it goes out with COMMIT.

    What it raises comes out of the transaction's block, at its end.
    """
    _lane().run_last(statement, parameters)


def _first(rows: Iterable[Row]) -> Row | None:
    return next(iter(rows), None)


@contextmanager
def transaction() -> Iterator[None]:
    """Run the statements of this thread inside the block in one transaction of the lane.

    SQLite takes its write lock at the start (BEGIN IMMEDIATE). Inside another such block, or an open
    `db.session` transaction, the block joins that one, and the end is the other's.
    """
    lane = _lane()
    if lane.is_in_transaction or _session_connection() is not None:
        yield
        return
    with lane.transaction():
        yield


class _Rehearsed(ApiError):
    """Ends a rehearsal; nobody else sees it."""


@contextmanager
def rehearsal() -> Iterator[None]:
    """As `transaction`, but nothing stays of what the block does. Not inside another transaction."""
    try:
        with transaction():
            yield
            raise _Rehearsed("This was a rehearsal.")
    except _Rehearsed:
        pass


def writes_in_one_round_trip() -> bool:
    """Whether the database takes an UPDATE that feeds an INSERT as one statement (Postgres; not SQLite)."""
    return _lane().is_postgres


def init_app(app: Flask) -> None:
    """Give the application a lane; connections are opened when they are first needed, in each worker."""
    with app.app_context():
        app.extensions[EXTENSION] = Lane(
            db.engine,
            size=app.config["DATABASE_POOL_SIZE"],
            wait_s=app.config["DATABASE_WAIT_S"],
            longest_wait_s=app.config["DATABASE_STATEMENT_TIMEOUT_S"] + ANSWER_DELAY_S,
        )


def close_idle_connections() -> None:
    """Close the lane's idle connections: an orderly end of the process or of a test."""
    _lane().close()


def _lane() -> "Lane":
    return current_app.extensions[EXTENSION]


def _session_connection() -> Connection | None:
    """The connection of the request's open transaction, if there is one."""
    if db.session.registry.has() and db.session().in_transaction():
        return CursorConnection(db.session.connection().connection.driver_connection)
    return None


class StatementFailed(Exception):
    """The database refused a statement of ours; the message holds no values."""


class IntegrityFailed(StatementFailed):
    """A key or constraint refused the row."""


class Compiled:
    """A statement's SQL for one database, and how its parameters become the driver's arguments."""

    __slots__ = ("_converters", "_defaults", "_names", "has_rows", "sql")

    def __init__(self, construct: sa.Executable, dialect: sa.Dialect) -> None:
        compiled: Any = construct.compile(dialect=dialect)  # type: ignore[attr-defined]
        self.sql = str(compiled)
        self.has_rows = bool(construct.is_select or compiled.effective_returning)
        self._names: list[str] = list(compiled.positiontup)
        self._defaults = {name: value for name, value in compiled.params.items() if value is not None}
        self._converters = []
        for position, name in enumerate(self._names):
            kind = compiled.binds[name].type.dialect_impl(dialect)
            if converter := kind.bind_processor(dialect):
                self._converters.append((position, converter))

    def arguments(self, parameters: Mapping[str, Any]) -> Row:
        """The driver's arguments, in the order of the SQL."""
        defaults = self._defaults
        values = [parameters[name] if name in parameters else defaults[name] for name in self._names]
        for position, convert in self._converters:
            values[position] = convert(values[position])
        return tuple(values)


class Lane:
    """Compiled statements and idle connections of one engine, shared by the threads of a worker.

    A queue of places, each with its connection once it was opened: taking and returning one costs a microsecond,
    against 20 to 40 for a pool that also resets the connection. There is nothing to reset after autocommit.
    """

    def __init__(self, engine: sa.Engine, *, size: int, wait_s: float, longest_wait_s: float) -> None:
        self._engine = engine
        self._longest_wait_s = longest_wait_s
        self._places: SimpleQueue[Connection | None] = SimpleQueue()
        for _ in range(size):
            self._places.put(None)
        self._size, self._wait_s = size, wait_s
        self._compiled: dict[Statement, Compiled] = {}
        self._in_transaction = threading.local()
        self._writer = threading.Lock()
        self.is_postgres = engine.dialect.name == "postgresql"

    @property
    def is_in_transaction(self) -> bool:
        """Whether this thread has a transaction open here."""
        return getattr(self._in_transaction, "connection", None) is not None

    def run(
        self, statement: Statement, parameters: Mapping[str, Any], reader: Callable[[Iterable[Row]], Result]
    ) -> Result:
        compiled = self._compiled.get(statement) or self._compile(statement)
        arguments = compiled.arguments(parameters)
        joined = getattr(self._in_transaction, "connection", None) or _session_connection()
        if joined is not None:
            return _execute(joined, compiled, arguments, reader)
        connection = self._take()
        try:
            result = _execute(connection, compiled, arguments, reader)
        except BaseException:
            self._discard(connection)
            raise
        self._give_back(connection)
        return result

    def run_together(self, calls: Sequence[tuple[Statement, Mapping[str, Any]]]) -> list[list[Row]]:
        """Inside a transaction of this thread."""
        connection = getattr(self._in_transaction, "connection", None) or _session_connection()
        if connection is None:
            raise RuntimeError("Statements are read together inside a transaction.")
        ready = []
        for statement, parameters in calls:
            compiled = self._compiled.get(statement) or self._compile(statement)
            ready.append((compiled.sql, compiled.arguments(parameters)))
        with _errors_translated():
            return connection.fetch_all(ready)

    def run_last(self, statement: Statement, parameters: Mapping[str, Any]) -> None:
        """At the end of this thread's transaction; at once in one of the session's, which has its own end."""
        if getattr(self._in_transaction, "connection", None) is None:
            self.run(statement, parameters, list)
            return
        compiled = self._compiled.get(statement) or self._compile(statement)
        self._in_transaction.last = compiled.sql, compiled.arguments(parameters)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._turn_to_write():
            connection = self._take()
            with self._transaction_on(connection):
                yield

    @contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        """SQLite has one writer. Threads that wait for SQLite's own lock poll it in growing steps of up to 100 ms;
        waiting for each other here first, they go on at once and in turn."""
        if self.is_postgres:
            yield
            return
        if not self._writer.acquire(timeout=self._wait_s):
            raise Unavailable()
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def _transaction_on(self, connection: Connection) -> Iterator[None]:
        try:
            with _errors_translated():
                connection.begin()
            self._in_transaction.connection, self._in_transaction.last = connection, None
            try:
                yield
            finally:
                self._in_transaction.connection = None
            with _errors_translated():
                connection.end(self._in_transaction.last)
        except ApiError as refusal:  # a rule of ours, such as a 404: nothing is wrong with the connection
            if isinstance(refusal, Unavailable) or not _undone(connection):
                self._discard(connection)
            else:
                self._give_back(connection)
            raise
        except BaseException:
            self._discard(connection)  # closing a connection rolls back
            raise
        self._give_back(connection)

    def close(self) -> None:
        for _ in range(self._size):
            connection = self._places.get(timeout=self._wait_s)
            if connection is not None:
                connection.close()
            self._places.put(None)

    def _take(self) -> Connection:
        try:
            connection = self._places.get(timeout=self._wait_s)
        except Empty:
            raise Unavailable("All database connections are in use; try again.") from None
        if connection is not None:
            if not connection.was_hung_up():
                return connection
            connection.close()
        try:
            return self._open()
        except BaseException:
            self._places.put(None)
            raise

    def _open(self) -> Connection:
        """A connection made by the engine, with its set-up, but outside its pool."""
        try:
            pooled = self._engine.raw_connection()
        except (sa.exc.SQLAlchemyError, *DRIVER_ERRORS) as error:  # SQLAlchemy wraps none from connecting
            raise Unavailable() from error
        driver: Any = pooled.driver_connection
        pooled.detach()
        if not self.is_postgres:
            return CursorConnection(driver)
        driver.autocommit = True
        return PreparedConnection(driver, self._longest_wait_s)

    def _give_back(self, connection: Connection) -> None:
        self._places.put(connection)

    def _discard(self, connection: Connection) -> None:
        connection.close()
        self._places.put(None)

    def _compile(self, statement: Statement) -> "Compiled":
        dialect = self._engine.dialect
        if self.is_postgres:  # $1 needs no rewriting by the driver
            dialect = PGDialect_psycopg(paramstyle="numeric_dollar")
        compiled = self._compiled[statement] = Compiled(statement.for_dialect(dialect.name), dialect)
        return compiled


def _execute(
    connection: Connection, compiled: Compiled, arguments: Row, reader: Callable[[Iterable[Row]], Result]
) -> Result:
    try:
        if compiled.has_rows:
            return connection.fetch(compiled.sql, arguments, reader)
        connection.execute(compiled.sql, arguments)
        return reader(())
    except DRIVER_ERRORS as error:
        raise _translated(error) from error


def _undone(connection: Connection) -> bool:
    """Roll back; whether that worked."""
    try:
        connection.undo()
    except DRIVER_ERRORS:
        return False
    return True


@contextmanager
def _errors_translated() -> Iterator[None]:
    try:
        yield
    except DRIVER_ERRORS as error:
        raise _translated(error) from error


def _translated(error: Exception) -> Exception:
    """Our error for a driver's: the database is away or busy, or it refused what we asked."""
    if is_passing(error):
        return Unavailable()
    kind = IntegrityFailed if isinstance(error, INTEGRITY_ERRORS) else StatementFailed
    return kind(describe(error))
