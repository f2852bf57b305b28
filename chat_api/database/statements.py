"""Compiled statements: a SQLAlchemy construct, compiled once per database and run on the driver itself.

SQLAlchemy's execution costs several times what the driver needs for a small statement (`docs/decisions.md` has the
figures), while its constructs keep the tables described once. Only `drivers.py` and `postgres_driver.py` below this
know the drivers.

- A read runs by itself. Inside a transaction it is part of that.
- A write, or a lock, needs a transaction: a `transaction()` block, or one that `db.session` has open, which it joins.
  Without one it is refused, so where something is committed can be read in the code.
- `Statement.first_and_commit` is the write that is a transaction by itself, in one round trip;
  `fetch_pipelined_and_commit` the same of several statements.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from operator import itemgetter
from queue import Empty, SimpleQueue
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from ..errors import ApiError, Unavailable, database_errors, describe, driver_errors, is_transient
from .batches import Batches
from .dialect import is_postgres
from .drivers import Connection, CursorConnection, Result, Row
from .engine import ANSWER_DELAY_S, queue_writers
from .group_commit import GroupCommit
from .session import db

EXTENSION = "chat_api.statements"
MOST_TOGETHER = 200  # statements in one pipeline
LOCK_WAIT_S = 0.5  # of a write behind which others wait that have nothing to do with it
_WAITED_IN_VAIN = ("55P03", "40P01")  # SQLSTATE of a lock that has not come in time, and of a deadlock
_PACKAGE = __name__.partition(".")[0]


class Statement:
    """A statement to be compiled once. Parameters are the names of its bindparams.

    Built from a SQLAlchemy construct, or from a function of `on_postgres` where the databases need different
    constructs (an upsert). `on_citus` is for where Citus needs another one than Postgres alone: it routes a statement
    to one node only where each table's owner is named by a plain equality.
    """

    def __init__(
        self,
        construct: sa.Executable | Callable[[bool], sa.Executable],
        *,
        on_citus: sa.Executable | None = None,
    ) -> None:
        self._construct = construct
        self._on_citus = on_citus

    @property
    def name(self) -> str:
        """Its module and its name there, for messages; it is looked for, as only an error wants to know."""
        for module_name, module in list(sys.modules.items()):
            if module_name.startswith(f"{_PACKAGE}."):
                for name, value in list(vars(module).items()):
                    if value is self:
                        return f"{module_name.removeprefix(_PACKAGE + '.')}.{name}"
        return "a statement without a name"

    def construct(
        self, on_postgres: bool, is_distributed: Callable[[], bool] = lambda: False
    ) -> sa.Executable:
        """The construct for this database; whether its tables are distributed is asked only where it matters."""
        if on_postgres and self._on_citus is not None and is_distributed():
            return self._on_citus
        return self._construct(on_postgres) if callable(self._construct) else self._construct

    def all(self, **parameters: Any) -> list[Row]:
        """Run it and return its rows, in the driver's types."""
        return _pool().run(self, parameters, list)

    def first(self, **parameters: Any) -> Row | None:
        """Run it and return its first row, or None."""
        return _pool().run(self, parameters, _first)

    def read(self, reader: Callable[[Iterable[Row]], Result], **parameters: Any) -> Result:
        """Run it and return what the reader makes of its rows. The reader may stop before their end."""
        return _pool().run(self, parameters, reader)

    def all_within(self, timeout_s: float, **parameters: Any) -> list[Row] | None:
        """Run a read outside a transaction and return its rows, or None where the database takes longer than this."""
        return _pool().run_within(self, parameters, timeout_s)

    def first_and_commit(self, **parameters: Any) -> Row | None:
        """Run a write as a transaction of its own, commit it, and return its first row, or None.

        One round trip on Postgres. Raises RuntimeError where this thread has a transaction open.
        """
        return _pool().run_and_commit(self, parameters, _first)


Call = tuple[Statement, Mapping[str, Any]]
"""A statement and its parameters."""


def fetch_pipelined(*calls: Call) -> list[list[Row]]:
    """Run statements of a transaction one after the other, each with its parameters; on Postgres in one round trip.

    Each sees what was committed before it began, so the first may take a lock for the others.
    """
    return _pool().fetch_pipelined(calls)


def read_together(*calls: Call) -> list[list[Row]]:
    """Run reads, on Postgres in one round trip; in this thread's transaction, if it has one."""
    return _pool().read_together(calls)


def fetch_pipelined_and_commit(*calls: Call) -> list[list[Row]]:
    """Run statements as a transaction of their own; on Postgres in one round trip, with BEGIN and COMMIT.

    Each sees what those before it wrote. Raises RuntimeError where this thread has a transaction open.
    """
    return _pool().fetch_pipelined_and_commit(calls)


def write_each_and_commit(calls: Sequence[Call]) -> list[Exception | None]:
    """Run writes that have nothing to do with each other, and commit; for each None, or the error that it met.

    One that the database refuses does not undo the others, nor does one whose row somebody has locked keep them
    waiting: on Postgres it is given up after LOCK_WAIT_S, with Unavailable as its error. They are one transaction, and
    a few round trips, as long as all succeed; on Citus, where rows are on several nodes, each is a transaction of its
    own. Raises Unavailable where the database is away or busy for all of them.
    """
    return _pool().write_each_and_commit(calls)


def read_each(calls: Sequence[Call]) -> list[list[Row] | Exception]:
    """Run reads outside a transaction, on Postgres in a few round trips; the rows of each, or the error that it met."""
    return _pool().run_apart(calls)


def end_pipelined_and_commit(*calls: Call) -> list[list[Row]]:
    """Run the last statements of this thread's transaction block and commit; on Postgres in one round trip.

    What follows in the block is outside of the transaction. Raises RuntimeError where there is no such block.
    """
    return _pool().end_pipelined_and_commit(calls)


def write_together_and_commit(write: Callable[[], Result]) -> Result:
    """Run a short write as a transaction of its own, on SQLite together with those that wait (`batches.py`).

    Another thread of the application may run it, and it may run twice: it uses nothing but its statements and what it
    was made of, and changes nothing else. Raises RuntimeError where this thread has a transaction open.
    """
    return _pool().write_together_and_commit(write)


def execute_at_end(statement: Statement, **parameters: Any) -> None:
    """Run a statement without rows at the end of this thread's transaction block; on Postgres it goes out with COMMIT.

    What it raises comes out of the block, at its end.
    """
    _pool().execute_at_end(statement, parameters)


def execute_before_commit(statement: Statement, **parameters: Any) -> None:
    """Run a statement without rows that nothing may refuse: on SQLite, in this thread's transaction block, when all is
    done that is committed together (`group_commit.py`), otherwise at once."""
    _pool().execute_before_commit(statement, parameters)


def _first(rows: Iterable[Row]) -> Row | None:
    return next(iter(rows), None)


@contextmanager
def transaction() -> Iterator[None]:
    """Run the statements of this thread inside the block in one transaction, and commit it at the end of the block.

    SQLite takes its write lock at the start (BEGIN IMMEDIATE); threads that wait for it are committed together
    (`group_commit.py`). Inside another such block, or an open
    `db.session` transaction, the block joins that one, whose end commits.
    """
    pool = _pool()
    if pool.is_in_transaction or _session_connection() is not None:
        yield
        return
    with pool.transaction():
        yield


def on_postgres() -> bool:
    """Whether the application's database is Postgres; else it is SQLite."""
    return _pool().is_postgres


def init_app(app: Flask) -> None:
    """Give the application a pool; connections are opened when they are first needed, in each worker."""
    with app.app_context():
        app.extensions[EXTENSION] = StatementPool(
            db.engine,
            size=app.config["DATABASE_POOL_SIZE"],
            wait_s=app.config["DATABASE_WAIT_S"],
            longest_wait_s=app.config["DATABASE_STATEMENT_TIMEOUT_S"] + ANSWER_DELAY_S,
        )


def close_idle_connections() -> None:
    """Close the pool's idle connections; for the orderly end of an application that others outlive, as in tests."""
    _pool().close()


def _pool() -> "StatementPool":
    return current_app.extensions[EXTENSION]


def _session_connection() -> Connection | None:
    """The connection of the request's open transaction, if there is one."""
    sessions = db.session.registry
    # the dictionary first: on the hottest paths no request has a session
    if sessions.registry and sessions.has() and db.session().in_transaction():
        connection = db.session.connection()
        kind = CursorConnection if not is_postgres(connection) else _postgres_driver().JoinedConnection
        return kind(connection.connection.driver_connection)
    return None


def _postgres_driver() -> Any:
    from . import postgres_driver  # which SQLite does without

    return postgres_driver


class StatementFailed(Exception):
    """The database refused a statement of ours; the message says which one, and holds no values."""


class IntegrityFailed(StatementFailed):
    """A key or constraint refused the row."""


class Compiled:
    """A statement's SQL for one database, and how its parameters become the driver's arguments."""

    __slots__ = ("_converters", "_defaults", "_values", "has_rows", "needs_transaction", "sql")

    def __init__(self, construct: sa.Executable, dialect: sa.Dialect) -> None:
        compiled: Any = construct.compile(dialect=dialect)  # type: ignore[attr-defined]
        self.sql = str(compiled)
        self.has_rows = bool(construct.is_select or compiled.effective_returning)
        self.needs_transaction = _writes_or_locks(construct, compiled)
        names: list[str] = list(compiled.positiontup)
        self._values: Callable[[Mapping[str, Any]], Iterable[Any]] = _getter(names)
        self._defaults = {name: value for name, value in compiled.params.items() if value is not None}
        self._converters = []
        for position, name in enumerate(names):
            kind = compiled.binds[name].type.dialect_impl(dialect)
            if converter := kind.bind_processor(dialect):
                self._converters.append((position, converter))

    def arguments(self, parameters: Mapping[str, Any]) -> Row:
        """The driver's arguments, in the order of the SQL."""
        values = self._values({**self._defaults, **parameters} if self._defaults else parameters)
        if not self._converters:
            return tuple(values)
        converted = list(values)
        for position, convert in self._converters:
            converted[position] = convert(converted[position])
        return tuple(converted)


def _getter(names: list[str]) -> Callable[[Mapping[str, Any]], Iterable[Any]]:
    """What looks up these names: at once, which for ten of them takes a fifth of the time."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda parameters: [parameters[name] for name in names]


def _writes_or_locks(construct: Any, compiled: Any) -> bool:
    """Whether a statement changes rows, also in a CTE, or locks some."""
    if isinstance(construct, sa.TextClause | sa.TextualSelect):
        return compiled.string.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE"))
    writes = construct.is_dml or any(cte.element.is_dml for cte in compiled.ctes or ())
    return bool(writes or getattr(construct, "_for_update_arg", None) is not None)


class StatementPool:
    """Compiled statements and idle connections of one engine, shared by the threads of a worker.

    A queue of slots, and a stack of connections that were opened: taking and returning one costs a microsecond,
    against 20 to 40 for a pool that also resets the connection. There is nothing to reset after autocommit.
    Whoever takes a slot gets the connection that was used last, whose pages and plans are in the caches.
    """

    def __init__(self, engine: sa.Engine, *, size: int, wait_s: float, longest_wait_s: float) -> None:
        self._engine = engine
        self._longest_wait_s = longest_wait_s
        self._slots: SimpleQueue[None] = SimpleQueue()
        self._idle: list[Connection] = []
        for _ in range(size):
            self._slots.put(None)
        self._size, self._wait_s = size, wait_s
        self._compiled: dict[Statement, Compiled] = {}
        self._in_transaction = threading.local()
        self._idle_writer: SimpleQueue[Connection] = SimpleQueue()  # at most one
        self._writers = GroupCommit(
            take=self._take_writer,
            give_back=self._idle_writer.put,
            discard=lambda connection: connection.close(),
            wait_s=wait_s,
        )
        self._batches = Batches(begin=self.transaction, savepoint=self._savepoint)
        self.is_postgres = is_postgres(engine)
        if not self.is_postgres:
            queue_writers(engine, self._writers)

    @property
    def is_in_transaction(self) -> bool:
        """Whether this thread has a transaction open here."""
        return getattr(self._in_transaction, "connection", None) is not None

    def run(
        self, statement: Statement, parameters: Mapping[str, Any], reader: Callable[[Iterable[Row]], Result]
    ) -> Result:
        """Run a read, or any statement of an open transaction."""
        compiled = self._compiled.get(statement) or self._compile(statement)
        arguments = compiled.arguments(parameters)
        joined = getattr(self._in_transaction, "connection", None) or _session_connection()
        if joined is not None:
            return _execute(joined, statement, compiled, arguments, reader)
        if compiled.needs_transaction:
            raise RuntimeError(f"Outside a transaction: {compiled.sql}")
        return self._run_alone(statement, compiled, arguments, reader)

    def run_and_commit(
        self, statement: Statement, parameters: Mapping[str, Any], reader: Callable[[Iterable[Row]], Result]
    ) -> Result:
        """Run a statement as a transaction of its own."""
        compiled = self._compiled.get(statement) or self._compile(statement)
        if self.is_in_transaction or _session_connection() is not None:
            raise RuntimeError(f"Inside a transaction that commits later: {compiled.sql}")
        if not self.is_postgres:
            with self.transaction():
                return self.run(statement, parameters, reader)
        return self._run_alone(statement, compiled, compiled.arguments(parameters), reader)

    def run_within(
        self, statement: Statement, parameters: Mapping[str, Any], timeout_s: float
    ) -> list[Row] | None:
        """Run a read that is ended when its time is over."""
        compiled = self._compiled.get(statement) or self._compile(statement)
        arguments = compiled.arguments(parameters)
        connection = self._take()
        try:
            with _errors_translated(statement):
                rows = connection.fetch_within(compiled.sql, arguments, timeout_s)
        except BaseException:
            self._discard(connection)
            raise
        self._give_back(connection)
        return rows

    def _run_alone(
        self,
        statement: Statement,
        compiled: "Compiled",
        arguments: Row,
        reader: Callable[[Iterable[Row]], Result],
    ) -> Result:
        """In autocommit, on a connection of the pool."""
        connection = self._take()
        try:
            result = _execute(connection, statement, compiled, arguments, reader)
        except BaseException:
            self._discard(connection)
            raise
        self._give_back(connection)
        return result

    def read_together(self, calls: Sequence[Call]) -> list[list[Row]]:
        """Reads, inside of a transaction or not."""
        if getattr(self._in_transaction, "connection", None) is not None or _session_connection() is not None:
            return self.fetch_pipelined(calls)
        ready = self._prepared(calls)
        connection = self._take()
        try:
            with _errors_translated(*(statement for statement, _ in calls)):
                rows = connection.fetch_all(ready)
        except BaseException:
            self._discard(connection)
            raise
        self._give_back(connection)
        return rows

    def fetch_pipelined(self, calls: Sequence[Call]) -> list[list[Row]]:
        """Inside a transaction of this thread."""
        connection = getattr(self._in_transaction, "connection", None) or _session_connection()
        if connection is None:
            raise RuntimeError("Statements are pipelined inside a transaction.")
        ready = self._prepared(calls)
        with _errors_translated(*(statement for statement, _ in calls)):
            return connection.fetch_all(ready)

    def fetch_pipelined_and_commit(self, calls: Sequence[Call]) -> list[list[Row]]:
        """Statements that are a transaction by themselves."""
        if self.is_in_transaction or _session_connection() is not None:
            raise RuntimeError("Inside a transaction that commits later.")
        if not self.is_postgres:
            with self.transaction():
                return self.fetch_pipelined(calls)
        ready = self._prepared(calls)
        is_distributed = self.is_distributed  # asked before a connection is taken, as it may take one itself
        connection = self._take()
        try:
            with _errors_translated(*(statement for statement, _ in calls)):
                rows = connection.fetch_all_and_commit(ready, is_distributed=is_distributed)
        except BaseException:
            self._discard(connection)
            raise
        self._give_back(connection)
        return rows

    def end_pipelined_and_commit(self, calls: Sequence[Call]) -> list[list[Row]]:
        """The last statements of this thread's transaction, on Postgres."""
        state = self._in_transaction
        if not self.is_postgres or not self.is_in_transaction:
            raise RuntimeError("There is no transaction of compiled statements to end.")
        ready = self._prepared(calls)
        with _errors_translated(*(statement for statement, _ in calls)):
            rows: list[list[Row]] = state.connection.end(ready)
        state.connection, state.has_ended = None, True
        return rows

    def write_together_and_commit(self, write: Callable[[], Result]) -> Result:
        """A short write that is a transaction by itself."""
        if self.is_in_transaction or _session_connection() is not None:
            raise RuntimeError("Inside a transaction that commits later.")
        if not self.is_postgres:
            return self._batches.run(write)
        with self.transaction():
            return write()

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        """In this thread's transaction: what fails in the block is undone.

        Raises Unavailable where SQLite has ended the transaction, as on a full disk: what came next would be a
        transaction of its own.
        """
        connection: Connection = self._in_transaction.connection
        connection.execute("SAVEPOINT one")
        try:
            yield
        except BaseException:
            try:
                connection.execute("ROLLBACK TO one")
                connection.execute("RELEASE one")
            except driver_errors() as error:
                raise Unavailable() from error
            raise
        connection.execute("RELEASE one")

    def write_each_and_commit(self, calls: Sequence[Call]) -> list[Exception | None]:
        """Writes that have nothing to do with each other."""
        errors: list[Exception | None] = []
        first = [_WAIT_SHORTLY] if self.is_postgres else []
        for batch in _batches(calls):
            if not self.is_distributed:
                try:
                    self.fetch_pipelined_and_commit([*first, *batch])
                    errors += [None] * len(batch)
                    continue
                except StatementFailed:
                    pass  # of one, which keeps the others from being stored
                except Unavailable as error:
                    if getattr(error.__cause__, "sqlstate", None) not in _WAITED_IN_VAIN:
                        raise
            outcomes = self.run_apart(batch, first=first)
            errors += [outcome if isinstance(outcome, Exception) else None for outcome in outcomes]
        return errors

    def run_apart(self, calls: Sequence[Call], *, first: Sequence[Call] = ()) -> list[list[Row] | Exception]:
        """Statements that are each a transaction by itself, which begins with the `first` ones."""
        outcomes: list[list[Row] | Exception] = []
        for batch in _batches(calls):
            beginning, ready = self._prepared(first), self._prepared(batch)
            connection = self._take()
            try:
                with _errors_translated():
                    found = connection.run_apart(ready, first=beginning)
            except BaseException:
                self._discard(connection)
                raise
            self._give_back(connection)
            outcomes += [
                _translated(one, statement) if isinstance(one, Exception) else one
                for (statement, _), one in zip(batch, found, strict=True)
            ]
        return outcomes

    @cached_property
    def is_distributed(self) -> bool:
        """Whether the tables are distributed over the nodes of a Citus cluster."""
        if not self.is_postgres:
            return False
        return bool(self.run(_HAS_CITUS, {}, list))

    def _prepared(self, calls: Sequence[Call]) -> list[tuple[str, Row]]:
        ready = []
        for statement, parameters in calls:
            compiled = self._compiled.get(statement) or self._compile(statement)
            ready.append((compiled.sql, compiled.arguments(parameters)))
        return ready

    def execute_at_end(self, statement: Statement, parameters: Mapping[str, Any]) -> None:
        """At the end of this thread's transaction; at once in one of the session's, which has its own end."""
        if getattr(self._in_transaction, "connection", None) is None:
            self.run(statement, parameters, list)
            return
        compiled = self._compiled.get(statement) or self._compile(statement)
        self._in_transaction.last = statement, (compiled.sql, compiled.arguments(parameters))

    def execute_before_commit(self, statement: Statement, parameters: Mapping[str, Any]) -> None:
        """When all is done that is committed together."""
        if self.is_postgres or not self.is_in_transaction:
            self.run(statement, parameters, list)
            return
        compiled = self._compiled.get(statement) or self._compile(statement)
        self._writers.run_before_commit(compiled.sql, compiled.arguments(parameters))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        state = self._in_transaction
        with _errors_translated(), self._transaction_on_connection() as connection:
            state.connection, state.last, state.has_ended = connection, None, False
            try:
                yield
            finally:
                state.connection = None
            if state.last is not None and not self.is_postgres:
                statement, last = state.last
                with _errors_translated(statement):
                    connection.execute(*last)

    @contextmanager
    def _transaction_on_connection(self) -> Iterator[Connection]:
        if not self.is_postgres:
            # Threads that wait for SQLite's own lock poll it in growing steps of up to 100 ms
            with self._writers.transaction() as connection:
                yield connection
            return
        connection = self._take()
        try:
            connection.begin()
            yield connection
            if not self._in_transaction.has_ended:
                statement, last = self._in_transaction.last or (None, None)
                with _errors_translated(*([statement] if statement else [])):
                    connection.end([last] if last else ())
        except ApiError as refusal:  # a rule of ours, such as a 404: nothing is wrong with the connection
            if isinstance(refusal, Unavailable) or not _rolled_back(connection):
                self._discard(connection)
            else:
                self._give_back(connection)
            raise
        except BaseException:
            self._discard(connection)  # closing a connection rolls back
            raise
        self._give_back(connection)

    def close(self) -> None:
        self._close_idle_writer()
        for _ in range(self._size):  # all: whoever has a connection gives it back first
            self._slots.get(timeout=self._wait_s)
        self._close_readers()
        for _ in range(self._size):
            self._slots.put(None)

    def _take(self) -> Connection:
        try:
            self._slots.get(timeout=self._wait_s)
        except Empty:
            raise Unavailable("All database connections are in use; retry.") from None
        connection = self._pop_idle()
        if connection is not None:
            if not connection.has_to_be_replaced():
                return connection
            connection.close()
            if not self.is_postgres:
                self._close_idle()
        try:
            return self._open()
        except BaseException:
            self._slots.put(None)
            raise

    def _take_writer(self) -> Connection:
        """SQLite's connection for writing, of which there is one beside the slots: its cache is right as long as nobody
        else writes, while with one after the other each reads anew what the others have changed."""
        try:
            connection = self._idle_writer.get_nowait()
        except Empty:
            self._close_outdated()
            return self._open()
        if not connection.has_to_be_replaced():
            return connection
        connection.close()
        self._close_idle()
        return self._open()

    def _close_outdated(self) -> None:
        """Close all idle connections, if one of them can't write and a new one can."""
        # looked at, not taken: whoever takes one meanwhile goes on with it
        if any(connection.has_to_be_replaced() for connection in tuple(self._idle)):
            self._close_idle()

    def _close_idle(self) -> None:
        """On SQLite the connections of a process share what it knows of the file: one that was opened while the disk
        was read-only keeps a new one from writing, too."""
        self._close_idle_writer()
        self._close_readers()
        self._engine.dispose()

    def _close_readers(self) -> None:
        while (connection := self._pop_idle()) is not None:
            connection.close()

    def _pop_idle(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _close_idle_writer(self) -> None:
        with suppress(Empty):
            self._idle_writer.get_nowait().close()

    def _open(self) -> Connection:
        """A connection made by the engine, with its set-up, but outside its pool."""
        try:
            pooled = self._engine.raw_connection()
        except database_errors() as error:  # SQLAlchemy wraps none from connecting
            raise Unavailable() from error
        driver: Any = pooled.driver_connection
        pooled.detach()
        if not self.is_postgres:
            return CursorConnection(driver)
        driver.autocommit = True
        prepared: Connection = _postgres_driver().PreparedConnection(driver, self._longest_wait_s)
        return prepared

    def _give_back(self, connection: Connection) -> None:
        self._idle.append(connection)  # first: whoever gets the slot finds it
        self._slots.put(None)

    def _discard(self, connection: Connection) -> None:
        connection.close()
        self._slots.put(None)

    def _compile(self, statement: Statement) -> "Compiled":
        dialect = self._engine.dialect
        if self.is_postgres:  # $1 needs no rewriting by the driver
            dialect = PGDialect_psycopg(paramstyle="numeric_dollar")
        construct = statement.construct(self.is_postgres, lambda: self.is_distributed)
        compiled = self._compiled[statement] = Compiled(construct, dialect)
        return compiled


_WAIT_SHORTLY: Call = (
    Statement(sa.select(sa.func.set_config("lock_timeout", f"{int(LOCK_WAIT_S * 1000)}ms", True))),
    {},
)
_HAS_CITUS = Statement(sa.select(1).select_from(sa.table("pg_extension")).where(sa.text("extname = 'citus'")))


def _batches(calls: Sequence[Call]) -> Iterator[Sequence[Call]]:
    """As many as go out together: the answers to all must fit into the buffers of the connection."""
    for begin in range(0, len(calls), MOST_TOGETHER):
        yield calls[begin : begin + MOST_TOGETHER]


def _execute(
    connection: Connection,
    statement: Statement,
    compiled: Compiled,
    arguments: Row,
    reader: Callable[[Iterable[Row]], Result],
) -> Result:
    try:
        if compiled.has_rows:
            return connection.fetch(compiled.sql, arguments, reader)
        connection.execute(compiled.sql, arguments)
        return reader(())
    except driver_errors() as error:
        raise _translated(error, statement) from error


def _rolled_back(connection: Connection) -> bool:
    """Roll back; whether that worked."""
    try:
        connection.rollback()
    except driver_errors():
        return False
    return True


@contextmanager
def _errors_translated(*statements: Statement) -> Iterator[None]:
    """Of those that run in the block."""
    try:
        yield
    except driver_errors() as error:
        raise _translated(error, *statements) from error


def _translated(error: Exception, *statements: Statement) -> Exception:
    """Our error for a driver's: the database is away or busy, or it refused the statement, or one of several."""
    if is_transient(error):
        return Unavailable()
    kind = IntegrityFailed if isinstance(error, driver_errors("IntegrityError")) else StatementFailed
    names = " or ".join(dict.fromkeys(statement.name for statement in statements)) or "BEGIN or COMMIT"
    return kind(f"{names}: {describe(error)}")
