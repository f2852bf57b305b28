"""Whether the service can serve."""

from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory

from ..database.session import db
from ..errors import Unavailable

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def require_ready() -> None:
    """Raise Unavailable where the database does not answer or its schema is not the current one."""
    query = sa.text("SELECT version_num FROM alembic_version")
    try:
        revision = db.session.scalar(query)
    except (sa.exc.ProgrammingError, sa.exc.OperationalError) as error:
        raise Unavailable(
            "The database does not answer, or has no schema yet: run `flask db upgrade`."
        ) from error
    if revision != _newest_revision():
        raise Unavailable("The database's schema is not the current one: run `flask db upgrade`.")


@cache
def _newest_revision() -> str | None:
    alembic = AlembicConfig()
    alembic.set_main_option("script_location", str(MIGRATIONS))
    return ScriptDirectory.from_config(alembic).get_current_head()
