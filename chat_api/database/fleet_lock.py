"""A lock for what one process of the fleet does at a time. It is free again when the process ends, however it does."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from zlib import crc32

import sqlalchemy as sa

from .dialect import is_postgres
from .session import db

_NAMESPACE = 0x63686174  # "chat": others may use advisory locks in the same database
_TAKE = sa.text("SELECT pg_try_advisory_lock(:namespace, :key)")
_GIVE_BACK = sa.text("SELECT pg_advisory_unlock(:namespace, :key)")


@contextmanager
def try_fleet_lock(name: str) -> Iterator[bool]:
    """Hold the lock of this name during the block, if it is free; whether it is held.

    On Postgres an advisory lock, on a connection outside the pool; on SQLite a lock on a file beside the database.
    """
    if is_postgres(db.engine):
        with _advisory_lock(name) as is_held:
            yield is_held
    else:
        with _file_lock(f"{db.engine.url.database}-{name}-lock") as is_held:
            yield is_held


@contextmanager
def only_long_write() -> Iterator[None]:
    """Be the only one of all threads and processes that is inside such a block, on SQLite, which has one writer."""
    with open(f"{db.engine.url.database}-long-write-lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _advisory_lock(name: str) -> Iterator[bool]:
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()
        number = {"namespace": _NAMESPACE, "key": crc32(name.encode()) >> 1}
        is_held = bool(connection.scalar(_TAKE, number))
        try:
            yield is_held
        finally:  # the end of the connection frees it too, but only some time after the block
            if is_held:
                with suppress(sa.exc.DBAPIError):
                    connection.execute(_GIVE_BACK, number)


@contextmanager
def _file_lock(path: str) -> Iterator[bool]:
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
