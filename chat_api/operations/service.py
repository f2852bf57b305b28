"""Whether the service can serve."""

from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory

from ..database.session import db
from ..errors import DATABASE_ERRORS, Unavailable

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def require_ready() -> None:
    """Raise Unavailable where the database does not answer or its schema is not that of this version."""
    try:
        problem = schema_problem()
    except DATABASE_ERRORS as error:
        raise Unavailable("The database does not answer.") from error
    if problem is not None:
        raise Unavailable(f"The database can't be used: {problem}")


def schema_problem() -> str | None:
    """What is wrong with the database's schema and what to do; None if it is that of this version.

    Raises the database's errors.
    """
    if not sa.inspect(db.session.connection()).has_table("alembic_version"):
        return "it has no schema yet; run `flask db upgrade`."
    revision = db.session.scalar(sa.text("SELECT version_num FROM alembic_version"))
    if revision is None:
        return "it has no schema yet; run `flask db upgrade`."
    if revision == _revisions()[0]:
        return None
    if revision in _revisions():
        return f"its schema is older ({revision}, not {_revisions()[0]}); run `flask db upgrade`."
    return (
        f"this version of chat-api does not know its schema ({revision}); install the version that made it."
    )


@cache
def _revisions() -> tuple[str, ...]:
    """All revisions, newest first."""
    alembic = AlembicConfig()
    alembic.set_main_option("script_location", str(MIGRATIONS))
    return tuple(script.revision for script in ScriptDirectory.from_config(alembic).walk_revisions())
