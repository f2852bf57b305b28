"""How a database runs the statements of a request: which indexes it reads, and whether it sorts."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from flask import Flask

from chat_api.database import statements
from chat_api.database.session import db


@contextmanager
def noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    """SQL and arguments of the statements that compiled statements send."""
    sent: list[tuple[str, tuple[Any, ...]]] = []
    run = statements._execute

    def note(connection: Any, statement: Any, compiled: Any, arguments: Any, reader: Any) -> Any:
        sent.append((compiled.sql, arguments))
        return run(connection, statement, compiled, arguments, reader)

    with monkeypatch.context() as patch:
        patch.setattr(statements, "_execute", note)
        yield sent


def plan_of(app: Flask, monkeypatch: pytest.MonkeyPatch, send: Callable[[], Any]) -> str:
    """How the database runs the one statement of a request."""
    with noted(monkeypatch) as sent:
        assert send().status_code == 200
    reads = [(sql, arguments) for sql, arguments in sent if re.search(r"FROM (messages|conversations)", sql)]
    assert len(reads) == 1, sent
    return explained(app, *reads[0])


def explained(app: Flask, sql: str, arguments: tuple[Any, ...]) -> str:
    """The plan in the database's own words; on Postgres, which keeps statements prepared, both that it may come to:
    for these values, and for any."""
    with app.app_context(), db.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        if connection.dialect.name == "sqlite":
            return "\n".join(row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {sql}", arguments))
        cursor = psycopg.RawCursor(driver)
        values = [value if value is None else str(value) for value in arguments]
        plans = [row[0] for row in cursor.execute(f"EXPLAIN {sql}".encode(), values)]
        # by the protocol's simple query, which knows no parameters
        generic = driver.pgconn.exec_(f"EXPLAIN (GENERIC_PLAN) {sql}".encode())
        plans += [generic.get_value(row, 0).decode() for row in range(generic.ntuples)]
        return "\n".join(plans)


def analyze(app: Flask) -> None:
    """Let Postgres look at how many rows there are, as it does by itself. SQLite does so only when it is told to."""
    with app.app_context(), db.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")
            connection.commit()
