"""Postgres' driver: connections that wait for no answer too long, and those for compiled statements.

Only what has a Postgres to connect to imports this, and with it psycopg.
"""

import select
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format, TransactionStatus

from .drivers import CursorConnection, Result, Row

_GOOD = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.PIPELINE_SYNC)
_SET_TIMEOUT = "SELECT set_config('statement_timeout', $1, true)"


def bounded_connections(longest_wait_s: float) -> type[psycopg.Connection[Any]]:
    """A connection class that waits for no answer longer than this: a hanging server keeps no timeout of its own.

    TCP does not help either, as the server's kernel goes on acknowledging what nobody reads.
    """

    class BoundedConnection(psycopg.Connection[Any]):
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, longest_wait_s if timeout is None else timeout)
            except psycopg.OperationalError:
                if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                    self.pgconn.finish()  # the answer may still come: nobody may take it for another one's
                raise

    return BoundedConnection


class JoinedConnection(CursorConnection):
    """The connection of a transaction that `db.session` has open."""

    def _cursor(self) -> Any:
        cursor = psycopg.RawCursor(self._driver)  # takes $1, as the statements are compiled
        cursor.format = Format.BINARY
        return cursor


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
        documentation, "Pipelining" of the protocol). Citus would let nodes commit the first statement before the
        others.
        """
        if is_distributed:
            results = self._run_together([("BEGIN", ()), *calls, ("COMMIT", ())])[1:-1]
        else:
            results = self._run_together(calls)
        return [self._rows(result) for result in results]

    def run_apart(
        self, calls: Sequence[tuple[str, Row]], *, first: Sequence[tuple[str, Row]] = ()
    ) -> list[list[Row] | Exception]:
        """In one round trip: each is followed by a synchronization point, which ends its transaction."""
        beginning, ready = self._ready(first), self._ready(calls)
        pgconn = self._pgconn
        pgconn.enter_pipeline_mode()
        for call in ready:
            for name, parameters in (*beginning, call):
                pgconn.send_query_prepared(name, parameters, None, Format.BINARY)
            pgconn.pipeline_sync()
        outcomes = []
        for _ in calls:
            for _ in beginning:
                self._outcome()
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

    def end(self, last: Sequence[tuple[str, Row]]) -> list[list[Row]]:
        if last:
            return [self._rows(result) for result in self._run_together([*last, ("COMMIT", ())])[:-1]]
        if self._begins:
            self._begins = False
        elif self._run("COMMIT", ()).command_status == b"ROLLBACK":  # a statement of it had failed
            raise psycopg.errors.InFailedSqlTransaction("the transaction was rolled back, not committed")
        return []

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
        ready = self._ready(calls)
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

    def _ready(self, calls: Sequence[tuple[str, Row]]) -> list[tuple[bytes, list[bytes | None]]]:
        """The names of prepared statements, each with its parameters."""
        return [(self._names.get(sql) or self._prepare(sql), _encoded(arguments)) for sql, arguments in calls]

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
