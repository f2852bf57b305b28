"""SQLite's only writer, shared: transactions of threads that wait for each other are committed together.

A commit costs an fsync, and a part of the full-text index that later has to be merged. So a thread that finds others
waiting leaves its transaction open; the next one goes on in it, behind a savepoint, and the last one commits for all.
Nobody returns before that commit: what is acknowledged is on disk, as it is with one commit for each, and what one
thread undoes is undone for it alone.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import ApiError, Unavailable, driver_errors
from .drivers import Connection, Row

MOST_MEMBERS = 32
LONGEST_S = 0.02  # after which nobody joins any more
_SAVEPOINT = "member"


@dataclass
class _Group:
    """A transaction with the work of several threads in it."""

    connection: Connection
    began_at: float
    members: int = 0  # whose work is done
    before_commit: list[tuple[str, Row]] = field(default_factory=list)  # what they left until then
    is_ended: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None  # why nothing of it is stored

    @property
    def may_grow(self) -> bool:
        return self.members < MOST_MEMBERS and time.monotonic() - self.began_at < LONGEST_S


class GroupCommit:
    """Lets one thread write at a time, in a transaction that it may share with those before and after it.

    Transactions of SQLAlchemy, on connections of their own, take turns with these (`engine.queue_writers`).
    """

    def __init__(
        self,
        *,
        take: Callable[[], Connection],
        give_back: Callable[[Connection], None],
        discard: Callable[[Connection], None],
        wait_s: float,
    ) -> None:
        self._take, self._give_back, self._discard = take, give_back, discard
        self._wait_s = wait_s
        self._turn = threading.Condition()
        self._is_taken = False
        self._waiting = 0
        self._open: _Group | None = None  # left for the next thread, of which there is one
        self._before_commit: list[tuple[str, Row]] = []  # of the thread whose turn it is

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection to write on in the block. At its end, all that was written is on disk.

        Raises Unavailable where the turn does not come in time, and the driver's errors, also that of the commit.
        """
        self._take_turn()
        group = self._join()
        self._before_commit = []
        try:
            yield group.connection
            if group.members:
                group.connection.execute(f"RELEASE {_SAVEPOINT}")
        except BaseException as error:
            self._undo(group, error)
            if (
                group.members
            ):  # the refusal may be for what they wrote, which nobody else sees before its commit
                self._await_end(group)
            raise
        group.members += 1
        group.before_commit += self._before_commit
        self._end_turn(group)
        self._await_end(group)

    def _await_end(self, group: _Group) -> None:
        """Wait until the transaction has ended. Raises why nothing of it is stored."""
        while not group.is_ended.wait(2 * LONGEST_S):
            self._commit_if_left(group)
        if group.error is not None:
            raise group.error

    def begin_alone(self) -> None:
        """Wait for the turn, for a transaction on another connection; nobody else writes until `end_alone`.

        Raises Unavailable where it does not come in time.
        """
        self._take_turn()
        group, self._open = self._open, None
        if group is not None:
            try:
                self._store(group)
            except BaseException:
                self._free_turn()
                raise

    def end_alone(self) -> None:
        """Let others write."""
        self._free_turn()

    def run_before_commit(self, sql: str, arguments: Row) -> None:
        """In the block of `transaction`: leave a statement until all are done that are committed together.

        It must be one that can't be refused, whatever the others have done: they would all fail with it.
        """
        self._before_commit.append((sql, arguments))

    def _take_turn(self) -> None:
        with self._turn:
            self._waiting += 1
            try:
                has_turn = self._turn.wait_for(lambda: not self._is_taken, self._wait_s)
            finally:
                self._waiting -= 1
            if not has_turn:
                raise Unavailable()
            self._is_taken = True

    def _join(self) -> _Group:
        """The transaction that was left open, or a new one."""
        group, self._open = self._open, None
        try:
            if group is None:
                group = _Group(self._begin(), time.monotonic())
            else:
                group.connection.execute(f"SAVEPOINT {_SAVEPOINT}")
        except BaseException as error:
            if group is not None:
                self._fail(group, error)
            self._free_turn()
            raise
        return group

    def _begin(self) -> Connection:
        connection = self._take()
        try:
            connection.begin()
        except BaseException:
            self._discard(connection)
            raise
        return connection

    def _undo(self, group: _Group, error: BaseException) -> None:
        """Undo what this thread has written; all of the group where SQLite has ended its transaction."""
        try:
            if group.members:
                group.connection.execute(f"ROLLBACK TO {_SAVEPOINT}")
                group.connection.execute(f"RELEASE {_SAVEPOINT}")
            elif isinstance(error, ApiError) and not isinstance(error, Unavailable):
                group.connection.rollback()  # a rule of ours, such as a 404: nothing is wrong with the connection
                self._give_back(group.connection)
            else:
                self._discard(group.connection)
        except driver_errors() as failure:
            self._fail(group, failure)
            self._free_turn()
            return
        if group.members:
            self._end_turn(group)
        else:
            self._free_turn()

    def _end_turn(self, group: _Group) -> None:
        """Leave the transaction to the next thread, if there is one, or commit for all."""
        with self._turn:
            if self._waiting and group.may_grow:
                self._open = group
                self._is_taken = False
                self._turn.notify()
                return
        self._commit(group)

    def _commit_if_left(self, group: _Group) -> None:
        """Commit a transaction that the next thread has not gone on in, since it was ended while it waited."""
        with self._turn:
            if self._is_taken or self._open is not group:
                return
            self._is_taken, self._open = True, None
        self._commit(group)

    def _commit(self, group: _Group) -> None:
        try:
            self._store(group)
        finally:
            self._free_turn()

    def _store(self, group: _Group) -> None:
        try:
            for sql, arguments in group.before_commit:
                group.connection.execute(sql, arguments)
            group.connection.end(())
        except driver_errors() as error:
            self._fail(group, error)
        except BaseException as error:
            self._fail(group, error)
            raise
        else:
            self._give_back(group.connection)
            group.is_ended.set()

    def _fail(self, group: _Group, error: BaseException) -> None:
        """Nothing of the group is stored: closing the connection rolls back."""
        self._discard(group.connection)
        group.error = error if isinstance(error, driver_errors()) else Unavailable()
        group.is_ended.set()

    def _free_turn(self) -> None:
        with self._turn:
            self._is_taken = False
            self._turn.notify()
