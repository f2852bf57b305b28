"""Connections for compiled statements: the least that SQLite's and Postgres' drivers need to run them."""

import select
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format

_GOOD = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.PIPELINE_SYNC)
_SET_TIMEOUT = "SELECT set_config('statement_timeout', $1, true)"
INTEGRITY_ERRORS = (psycopg.IntegrityError, sqlite3.IntegrityError)
Row = tuple[Any, ...]
Result = TypeVar("Result")


class Connection(Protocol):
    """What the pool of statements needs of a connection. All methods raise the driver's errors."""

    def execute(self, sql: str, arguments: Row = ()) -> None:
        """Run a statement that has no rows."""

    def fetch(self, sql: str, arguments: Row, reader: Callable[[Iterable[Row]], Result]) -> Result:
        """Run a statement and let the reader have its rows."""

    def fetch_all(self, calls: Sequence[tuple[str, Row]]) -> list[list[Row]]:
        """Run statements one after the other, and return the rows of each; none of one that has no rows."""

    def fetch_all_and_commit(
        self, calls: Sequence[tuple[str, Row]], *, is_distributed: bool = False
    ) -> list[list[Row]]:
        """As `fetch_all`, as a transaction of its own, on tables that may be distributed over nodes.

        After an error the connection is of no more use.
        """

    def run_apart(self, calls: Sequence[tuple[str, Row]]) -> list[list[Row] | Exception]:
        """Run statements outside a transaction, each as one by itself; the rows of each, or the driver's error."""

    def fetch_within(self, sql: str, arguments: Row, timeout_s: float) -> list[Row] | None:
        """Run a read outside a transaction and return its rows, or None where it took longer than this."""

    def begin(self) -> None:
        """Begin a transaction that may write."""

    def end(self, last: tuple[str, Row] | None) -> None:
        """Run the last statement, which has no rows, and commit."""

    def rollback(self) -> None:
        """Roll back."""

    def has_to_be_replaced(self) -> bool:
        """Whether the server closed this idle connection, or it can't write and a new one can; without a round trip."""

    def close(self) -> None:
        """Close it; what it had not committed is rolled back."""


class CursorConnection:
    """SQLite, row by row; and the psycopg connection of a transaction that `db.session` has open."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def execute(self, sql: str, arguments: Row = ()) -> None:
        self._cursor().execute(sql, arguments)

    def fetch(self, sql: str, arguments: Row, reader: Callable[[Iterable[Row]], Result]) -> Result:
        cursor = self._cursor()
        try:
            cursor.execute(sql, arguments)
            return reader(cursor if cursor.description else ())
        finally:
            cursor.close()  # SQLite keeps its read lock while rows are left

    def fetch_all(self, calls: Sequence[tuple[str, Row]]) -> list[list[Row]]:
        return [self.fetch(sql, arguments, list) for sql, arguments in calls]

    def fetch_all_and_commit(
        self, calls: Sequence[tuple[str, Row]], *, is_distributed: bool = False
    ) -> list[list[Row]]:
        self.begin()
        rows = self.fetch_all(calls)
        self.end(None)
        return rows

    def run_apart(self, calls: Sequence[tuple[str, Row]]) -> list[list[Row] | Exception]:
        outcomes: list[list[Row] | Exception] = []
        for sql, arguments in calls:
            try:
                outcomes.append(self.fetch(sql, arguments, list))
            except sqlite3.Error as error:
                outcomes.append(error)
        return outcomes

    def fetch_within(self, sql: str, arguments: Row, timeout_s: float) -> list[Row] | None:
        timer = threading.Timer(timeout_s, self._driver.interrupt)
        timer.daemon = True
        timer.start()
        try:
            return self.fetch(sql, arguments, list)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                return None
            raise
        finally:
            # an interrupt that comes too late has no statement to end (SQLite documentation, c3ref/interrupt.html)
            timer.cancel()
            timer.join()

    def begin(self) -> None:
        """SQLite takes its write lock here; a Postgres connection that is joined has its transaction already."""
        self.execute("BEGIN IMMEDIATE")

    def end(self, last: tuple[str, Row] | None) -> None:
        if last is not None:
            self.execute(*last)
        self.execute("COMMIT")

    def rollback(self) -> None:
        self.execute("ROLLBACK")

    def has_to_be_replaced(self) -> bool:
        return bool(getattr(self._driver, "is_outdated", False))

    def close(self) -> None:
        self._driver.close()

    def _cursor(self) -> Any:
        if isinstance(self._driver, psycopg.Connection):
            cursor = psycopg.RawCursor(self._driver)  # takes $1, as the statements are compiled
            cursor.format = Format.BINARY
            return cursor
        return self._driver.cursor()


class PreparedConnection:
    """A Postgres connection that prepares each statement once and speaks psycopg's protocol layer (`psycopg.pq`).

    psycopg's cursor does the same, but its way there costs about as much CPU as all the rest of a small statement
    (18 us against 9 for one row, 67 against 45 for an insert). No answer is waited for longer than `longest_wait_s`.
    """

    def __init__(self, driver: Any, longest_wait_s: float) -> None:
        self._driver = driver
        self._pgconn = driver.pgconn
        self._decoder = Transformer(driver)
        self._names: dict[str, bytes] = {}
        self._longest_wait_ms = int(longest_wait_s * 1000)
        self._begins = False  # BEGIN is due, and goes out with the next statement
        self._readable = _poll(driver.fileno(), select.POLLIN)
        self._writable = _poll(driver.fileno(), select.POLLOUT)

    def execute(self, sql: str, arguments: Row = ()) -> None:
        self._run(sql, arguments)

    def fetch(self, sql: str, arguments: Row, reader: Callable[[Iterable[Row]], Result]) -> Result:
        result = self._run(sql, arguments)
        self._decoder.set_pgresult(result)
        return reader(self._decoder.load_rows(0, result.ntuples, tuple))

    def fetch_all(self, calls: Sequence[tuple[str, Row]]) -> list[list[Row]]:
        """In one round trip: all go out before the first answer is waited for."""
        return [self._rows(result) for result in self._run_together(calls)]

    def fetch_all_and_commit(
        self, calls: Sequence[tuple[str, Row]], *, is_distributed: bool = False
    ) -> list[list[Row]]:
        """In one round trip.

        What goes out before a synchronization point is one transaction without BEGIN and COMMIT (PostgreSQL
        documentation, section 55.2.2.1). Citus would let nodes commit the first statement before the others.
        """
        if is_distributed:
            results = self._run_together([("BEGIN", ()), *calls, ("COMMIT", ())])[1:-1]
        else:
            results = self._run_together(calls)
        return [self._rows(result) for result in results]

    def run_apart(self, calls: Sequence[tuple[str, Row]]) -> list[list[Row] | Exception]:
        """In one round trip: each is followed by a synchronization point, which ends its transaction."""
        names = [self._names.get(sql) or self._prepare(sql) for sql, _ in calls]
        pgconn = self._pgconn
        pgconn.enter_pipeline_mode()
        for name, (_, arguments) in zip(names, calls, strict=True):
            pgconn.send_query_prepared(name, _encoded(arguments), None, Format.BINARY)
            pgconn.pipeline_sync()
        outcomes = []
        for _ in calls:
            result, failure = self._outcome()
            outcomes.append((result, self._failure_of_commit() or failure))
        pgconn.exit_pipeline_mode()
        return [
            self._rows(result) if failure is None else error_from_result(failure)
            for result, failure in outcomes
        ]

    def fetch_within(self, sql: str, arguments: Row, timeout_s: float) -> list[Row] | None:
        """In one round trip, as a transaction whose statements may take so long."""
        timeout_ms = str(max(int(timeout_s * 1000), 1))
        try:
            results = self._run_together(
                [("BEGIN", ()), (_SET_TIMEOUT, (timeout_ms,)), (sql, arguments), ("COMMIT", ())]
            )
        except psycopg.errors.QueryCanceled:
            self._run("ROLLBACK", ())
            return None
        return self._rows(results[2])

    def begin(self) -> None:
        self._begins = True

    def end(self, last: tuple[str, Row] | None) -> None:
        if last is not None:
            self._run_together([last, ("COMMIT", ())])
        elif self._begins:
            self._begins = False
        else:
            self._run("COMMIT", ())

    def rollback(self) -> None:
        if self._begins:
            self._begins = False
        else:
            self._run("ROLLBACK", ())

    def has_to_be_replaced(self) -> bool:
        """Nothing is expected on an idle connection, so anything to read is its end. This is what lets a write go
        out right after a restart of Postgres: it can't be retried, for it might have been stored."""
        return bool(self._readable.poll(0))

    def close(self) -> None:
        self._driver.close()

    def _run(self, sql: str, arguments: Row) -> Any:
        if self._begins:
            return self._run_together([(sql, arguments)])[0]
        name = self._names.get(sql) or self._prepare(sql)
        self._pgconn.send_query_prepared(name, _encoded(arguments), None, Format.BINARY)
        return self._answer()

    def _run_together(self, calls: Sequence[tuple[str, Row]]) -> list[Any]:
        """The results of statements that go out in one pipeline (PostgreSQL documentation, section 32.5)."""
        if self._begins:
            calls = [("BEGIN", ()), *calls]
        ready = [
            (self._names.get(sql) or self._prepare(sql), _encoded(arguments)) for sql, arguments in calls
        ]
        pgconn = self._pgconn
        pgconn.enter_pipeline_mode()
        for name, parameters in ready:
            pgconn.send_query_prepared(name, parameters, None, Format.BINARY)
        pgconn.pipeline_sync()
        outcomes = [self._outcome() for _ in calls]
        outcomes.append((None, self._failure_of_commit()))
        pgconn.exit_pipeline_mode()
        has_begun = self._begins and outcomes[0][1] is None
        if has_begun:  # also where what follows fails, which has to be rolled back then
            self._begins = False
        for _, failure in outcomes:
            if failure is not None:  # the first one: those after it were skipped
                raise error_from_result(failure)
        results = [result for result, _ in outcomes[:-1]]
        return results[1:] if has_begun else results

    def _failure_of_commit(self) -> Any:
        """Read up to a synchronization point, which commits; why that failed, None where it did not."""
        failure = None
        for _ in range(4):  # the failure and its NULL
            part = self._next_part()
            if part is not None and part.status == ExecStatus.PIPELINE_SYNC:
                return failure
            failure = part or failure
        raise psycopg.OperationalError("the server's answer has no end")

    def _rows(self, result: Any) -> list[Row]:
        if not result.nfields:  # a write without RETURNING
            return []
        self._decoder.set_pgresult(result)
        return self._decoder.load_rows(0, result.ntuples, tuple)

    def _prepare(self, sql: str) -> bytes:
        name = b"statement_%d" % len(self._names)
        self._pgconn.send_prepare(name, sql.encode())
        self._answer()
        self._names[sql] = name
        return name

    def _answer(self) -> Any:
        """The result of what was sent. Raises the psycopg error of the server's, or OperationalError for no answer."""
        result, failure = self._outcome()
        if failure is not None:
            raise error_from_result(failure)
        return result

    def _outcome(self) -> tuple[Any, Any]:
        """The result of the next statement, or its failure. Raises OperationalError for no answer.

        It is read to its end: the error of a commit that fails comes after the rows of its statement.
        """
        pgconn, result, failure = self._pgconn, None, None
        while pgconn.flush():
            self._wait(self._writable)
        while (part := self._next_part()) is not None:
            if part.status in _GOOD:
                result = part
            else:
                failure = part
        return result, failure

    def _next_part(self) -> Any:
        while self._pgconn.is_busy():
            self._wait(self._readable)
            self._pgconn.consume_input()
        return self._pgconn.get_result()

    def _wait(self, poll: Any) -> None:
        if not poll.poll(self._longest_wait_ms):
            raise psycopg.OperationalError("the server gave no answer in time")


def _poll(descriptor: int, event: int) -> Any:
    poll = select.poll()
    poll.register(descriptor, event)
    return poll


def _encoded(arguments: Row) -> list[bytes | None]:
    """Parameters as Postgres reads them in text. Raises psycopg.DataError for NUL, where libpq would end the text."""
    texts = [
        None if value is None else (value if value.__class__ is str else str(value)).encode()
        for value in arguments
    ]
    for text in texts:
        if text is not None and b"\0" in text:
            raise psycopg.DataError("a text parameter holds NUL")
    return texts
