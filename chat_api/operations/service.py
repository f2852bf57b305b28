"""Whether the service can serve."""

from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from flask import current_app

from ..database.engine import reading
from ..database.session import db
from ..errors import DATABASE_ERRORS, SchemaMismatch, Unavailable

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
EXTENSION = "chat_api.schema"  # the revision, once it was found to be new enough


def require_ready() -> None:
    """Raise Unavailable where the database does not answer or its schema is older than this version needs.

    With a newer one this version goes on until it is replaced: see "Upgrading without downtime" in docs/deployment.md.
    """
    try:
        problem = schema_problem(accepts_newer=True)
    except DATABASE_ERRORS as error:
        raise Unavailable("The database does not answer.") from error
    if problem is not None:
        raise Unavailable(f"The database can't be used: {problem}")


def require_schema() -> None:
    """Raise Unavailable where the database's schema is older than this version needs.

    It is looked up until it is found to be new enough, so requests to a service that runs pay nothing. A newer schema,
    which this version does not know, is let pass: it serves versions of before, too, while they are replaced.
    """
    if EXTENSION in current_app.extensions:
        return
    with reading(db.engine).connect() as connection:
        revision = _schema_revision(connection)
    if revision is None or revision in known_revisions()[1:]:
        raise SchemaMismatch()
    current_app.extensions[EXTENSION] = revision


def schema_problem(*, accepts_newer: bool = False) -> str | None:
    """What is wrong with the database's schema and what to do; None if it is that of this version.

    With `accepts_newer` also if this version does not know it.

    Raises the database's errors.
    """
    revision = _schema_revision(db.session.connection())
    if revision is None:
        return "it has no schema yet; run `flask db upgrade`."
    if revision == known_revisions()[0]:
        return None
    if revision in known_revisions():
        return f"its schema is older ({revision}, not {known_revisions()[0]}); run `flask db upgrade`."
    if accepts_newer:
        return None
    return (
        f"this version of chat-api does not know its schema ({revision}); install the version that made it."
    )


def _schema_revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.scalar(sa.text("SELECT version_num FROM alembic_version"))


@cache
def known_revisions() -> tuple[str, ...]:
    """The revisions that this version knows, newest first."""
    alembic = AlembicConfig()
    alembic.set_main_option("script_location", str(MIGRATIONS))
    return tuple(script.revision for script in ScriptDirectory.from_config(alembic).walk_revisions())
