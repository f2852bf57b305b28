"""What stands in the tables, read past the service."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from flask import Flask

from chat_api.extensions import db
from tests.conftest import TEMPLATE, migrate
from tests.support.postgres import create_database, drop_database, ensure_template


def owned_rows(app: Flask, user_id: str) -> dict[str, int]:
    """How many rows each table has of this user; tables that know no user are left out."""
    counts = {}
    with app.app_context():
        for table in db.metadata.sorted_tables:
            owner = table.c.id if table.name == "users" else table.c.get("user_id", table.c.get("owner_id"))
            if owner is not None:
                query = sa.select(sa.func.count()).select_from(table).where(owner == user_id)
                counts[table.name] = db.session.scalar(query) or 0
    return counts


def everything_stored(app: Flask) -> str:
    """All values of all tables as text, and the bytes of the SQLite file and its log."""
    with app.app_context():
        parts = [
            repr(tuple(row))
            for table in db.metadata.sorted_tables
            for row in db.session.execute(sa.select(table))
        ]
        path = db.engine.url.database
        if app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite") and path:
            files = [file for file in (Path(path), Path(path + "-wal")) if file.exists()]
            parts += [file.read_bytes().decode("latin-1") for file in files]
    return "\n".join(parts)


@contextmanager
def fresh_database(backend: str, folder: Path, *, migrated: bool = True) -> Iterator[str]:
    """The URL of a database of one test's own."""
    if backend == "sqlite":
        url = f"sqlite:///{folder / f'{uuid.uuid4().hex}.db'}"
        if migrated:
            migrate(url, folder)
        yield url
        return
    name = f"own_{uuid.uuid4().hex[:12]}"
    template = ensure_template(TEMPLATE, lambda url: migrate(url, folder)) if migrated else None
    try:
        yield create_database(name, template)
    finally:
        drop_database(name)
