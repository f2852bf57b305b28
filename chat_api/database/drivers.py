"""Connections for compiled statements: the least that SQLite's driver needs to run them; for Postgres' see
`postgres_driver.py`, which SQLite does without."""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

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

    def run_apart(
        self, calls: Sequence[tuple[str, Row]], *, first: Sequence[tuple[str, Row]] = ()
    ) -> list[list[Row] | Exception]:
        """Run statements outside a transaction, each as one by itself that begins with the `first` ones, which can't
        fail; the rows of each, or the driver's error."""

    def fetch_within(self, sql: str, arguments: Row, timeout_s: float) -> list[Row] | None:
        """Run a read outside a transaction and return its rows, or None where it took longer than this."""

    def begin(self) -> None:
        """Begin a transaction that may write."""

    def end(self, last: Sequence[tuple[str, Row]]) -> list[list[Row]]:
        """Run the last statements, commit, and return the rows of each."""

    def rollback(self) -> None:
        """Roll back."""

    def has_to_be_replaced(self) -> bool:
        """Whether the server closed this idle connection, or it can't write and a new one can; without a round trip."""

    def close(self) -> None:
        """Close it; what it had not committed is rolled back."""


class CursorConnection:
    """A driver's connection with cursors, row by row: SQLite's."""

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
        return self.end(calls)

    def run_apart(
        self, calls: Sequence[tuple[str, Row]], *, first: Sequence[tuple[str, Row]] = ()
    ) -> list[list[Row] | Exception]:
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
        """SQLite takes its write lock here."""
        self.execute("BEGIN IMMEDIATE")

    def end(self, last: Sequence[tuple[str, Row]]) -> list[list[Row]]:
        rows = self.fetch_all(last)
        self.execute("COMMIT")
        return rows

    def rollback(self) -> None:
        self.execute("ROLLBACK")

    def has_to_be_replaced(self) -> bool:
        return bool(getattr(self._driver, "is_outdated", False))

    def close(self) -> None:
        self._driver.close()

    def _cursor(self) -> Any:
        return self._driver.cursor()
