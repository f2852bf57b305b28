"""Stores groups of conversations in threads of their own, on connections of their own, while the next one is read.

For Postgres, whose server needs three times as long for a group as the import needs to prepare one, and has a process
for each connection. On SQLite, which has one writer, an import reads while others write (`bulk.with_rests`), so there
this would gain nothing; it is also left out for a file that is one group.

A thread of an import holds at most one connection, and waits for nothing else meanwhile; the request's own thread holds
none while it waits for them. So an import that gets no connection gets one later, or is 503 after DATABASE_WAIT_S.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from flask import Flask, current_app
from sqlalchemy.exc import IntegrityError

from ..database.session import db
from ..database.statements import on_postgres
from .conversation_group import Clash, Held, keys_of

MOST_IN_FLIGHT = 2  # the server has other work for its cores, and each group takes memory
EXTRA_SHARE = 4  # of so many connections of a worker's pool, one may be an import's second one

Store = Callable[[], None]
"""Stores rows in the session's transaction."""


class _ExtraConnections:
    """Counts the imports of this worker that use a second connection, so that they leave the pool to others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0

    def try_take(self) -> bool:
        """Take one if there is one; whether it was taken."""
        most: int = current_app.config["DATABASE_POOL_SIZE"] // EXTRA_SHARE
        with self._lock:
            is_free = self._taken < most
            self._taken += is_free
        return is_free

    def give_back(self) -> None:
        """Let another import have it."""
        with self._lock:
            self._taken -= 1


_extra_connections = _ExtraConnections()


class InFlight(NamedTuple):
    """A group that is being stored."""

    group: list[Held]
    keys: set[str]
    outcome: "Future[bool]"


class GroupWriter:
    """The groups of one import that are being stored, in the order of the file."""

    def __init__(self) -> None:
        self._in_flight: deque[InFlight] = deque()
        self._threads: ThreadPoolExecutor | None = None
        self._has_extra = False

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def is_full(self) -> bool:
        """Whether one has to be finished before another is begun."""
        return len(self._in_flight) >= (MOST_IN_FLIGHT if self._has_extra else 1)

    def uses_any(self, keys: Collection[str]) -> bool:
        """Whether one of these ids is in a group that is being stored: which comes first must not be left to chance."""
        return any(not each.keys.isdisjoint(keys) for each in self._in_flight)

    def begin(self, group: list[Held], store: Store) -> None:
        """Have a thread store a group, and commit."""
        if self._threads is None:
            self._has_extra = _extra_connections.try_take()
            self._threads = ThreadPoolExecutor(MOST_IN_FLIGHT, thread_name_prefix="import")
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        outcome = self._threads.submit(_store_and_commit, app, store)
        self._in_flight.append(InFlight(group, keys_of(group), outcome))

    def finish_first(self) -> tuple[list[Held], bool]:
        """Wait until the first group has ended; it, and whether it is stored. Raises what the database does.

        Where it was refused, all others have ended as well.
        """
        first = self._in_flight.popleft()
        is_stored = first.outcome.result()
        if not is_stored:
            for other in self._in_flight:
                other.outcome.exception()
        return first.group, is_stored

    def close(self) -> None:
        """Wait until all threads have ended; what they have committed stays."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown()
        if self._has_extra:
            self._has_extra = False
            _extra_connections.give_back()


def overlaps() -> bool:
    """Whether groups are stored while others are read, on this database."""
    return on_postgres()


def try_store(store: Store) -> bool:
    """Store a group in the session's transaction; rolled back, and False, where a key or an upload refuses it."""
    try:
        store()
    except (IntegrityError, Clash):
        db.session.rollback()
        return False
    return True


def _store_and_commit(app: Flask, store: Store) -> bool:
    """In a thread of its own: the application's context gives it a session."""
    with app.app_context():
        is_stored = try_store(store)
        if is_stored:
            db.session.commit()
        return is_stored
