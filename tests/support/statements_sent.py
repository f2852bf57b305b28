"""The SQL that the service sends to Postgres, and for which endpoint or thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
import sqlalchemy as sa
from flask import has_request_context, request

from chat_api.database import postgres_driver


class Sent(NamedTuple):
    """A statement, and what sent it: the endpoint of a request, or a thread's name."""

    sender: str
    sql: str


@contextmanager
def recorded() -> Iterator[list[Sent]]:
    """All that requests and replies send to Postgres in the block, by SQLAlchemy and by compiled statements; nothing
    that a test sends by itself."""
    sent: list[Sent] = []

    def note(*statements: str) -> None:
        sender = _sender()
        if sender is not None:
            sent.extend(Sent(sender, sql) for sql in statements)

    def note_execution(connection: Any, cursor: Any, sql: str, *rest: Any) -> None:
        if connection.dialect.name == "postgresql":
            note(sql)

    copy = psycopg.Cursor.copy

    def noting_copy(cursor: Any, sql: Any, *rest: Any, **options: Any) -> Any:
        note(str(sql))
        return copy(cursor, sql, *rest, **options)

    psycopg.Cursor.copy = noting_copy  # type: ignore
    originals = {
        name: getattr(postgres_driver.PreparedConnection, name) for name in _TAKES_ONE | _TAKES_SEVERAL
    }
    sa.event.listen(sa.Engine, "before_cursor_execute", note_execution)
    for name, run in originals.items():
        setattr(postgres_driver.PreparedConnection, name, _noting(run, note, takes_one=name in _TAKES_ONE))
    try:
        yield sent
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note_execution)
        psycopg.Cursor.copy = copy  # type: ignore[method-assign]
        for name, run in originals.items():
            setattr(postgres_driver.PreparedConnection, name, run)


def _sender() -> str | None:
    if has_request_context():
        return request.endpoint
    name = threading.current_thread().name
    return next((thread for thread in _THREADS if name.startswith(thread)), None)


_THREADS = ("supervisor", "reply")
_TAKES_ONE = {"_run"}
_TAKES_SEVERAL = {"_run_together", "run_apart"}


def _noting(run: Callable[..., Any], note: Callable[..., None], *, takes_one: bool) -> Callable[..., Any]:
    def noting(connection: Any, statements: Any, *rest: Any, **options: Any) -> Any:
        note(*([statements] if takes_one else [sql for sql, _ in statements]))
        return run(connection, statements, *rest, **options)

    return noting
