"""Whether the service can serve."""

import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from flask import current_app

from ..database import nodes
from ..database.dialect import is_postgres
from ..database.engine import reading
from ..database.session import db
from ..errors import SchemaMismatch, Unavailable, database_errors

REVISIONS = Path(__file__).resolve().parents[2] / "migrations" / "versions"
EXTENSION = "chat_api.schema"  # the revision, once it was found to be new enough
NODES = "chat_api.nodes"  # what was found of the settings of Postgres' nodes
LOOK_AGAIN_S = 60.0
LOOK_AGAIN_AFTER_A_PROBLEM_S = 1.0


class _Found(NamedTuple):
    """What was found of the nodes' settings, and until when (monotonic) that is believed."""

    problem: str | None
    until: float


class PromisesNotKept(Unavailable):
    """Postgres, or a node of it, does not keep what is promised to clients."""

    def __init__(self) -> None:
        super().__init__("The database is not set up as this service needs it; /readyz says what to do.")


def require_ready() -> None:
    """Raise Unavailable where the database does not answer, can't be written, does not keep what the service promises,
    or has a schema that is older than this version needs.

    With a newer one this version goes on until it is replaced: see "Upgrading without downtime" in docs/deployment.md.
    """
    try:
        problem = _node_problem() or _replica_problem() or schema_problem(accepts_newer=True)
    except database_errors() as error:
        raise Unavailable("The database does not answer.") from error
    if problem is not None:
        raise Unavailable(f"The database can't be used: {problem}")


def require_usable_database() -> None:
    """Raise Unavailable where the database does not keep what the service promises (`database.nodes`), or its schema is
    older than this version needs.

    It is looked up until all is found to be right, so requests to a service that runs pay nothing. A newer schema,
    which this version does not know, is let pass: it serves versions of before, too, while they are replaced.
    """
    if EXTENSION in current_app.extensions:
        return
    if _node_problem() is not None:
        raise PromisesNotKept()
    with reading(db.engine).connect() as connection:
        revision = _schema_revision(connection)
    if revision is None or revision in known_revisions()[1:]:
        raise SchemaMismatch()
    current_app.extensions[EXTENSION] = revision


def _node_problem() -> str | None:
    """What Postgres' nodes don't keep; None if nothing, as on SQLite. Looked up again after a while only."""
    if not is_postgres(db.engine):
        return None
    found: _Found | None = current_app.extensions.get(NODES)
    if found is None or time.monotonic() >= found.until:
        config = current_app.config
        needed = nodes.Needed(config["DATABASE_WAIT_S"], config["DATABASE_STATEMENT_TIMEOUT_S"])
        problem = nodes.problem_of(db.engine, needed)
        wait_s = LOOK_AGAIN_S if problem is None else LOOK_AGAIN_AFTER_A_PROBLEM_S
        found = current_app.extensions[NODES] = _Found(problem, time.monotonic() + wait_s)
    return found.problem


def _replica_problem() -> str | None:
    """Whether nothing can be written, as on a replica that nobody has promoted."""
    is_replica = sa.text("SELECT pg_is_in_recovery()")
    if is_postgres(db.engine) and db.session.connection().scalar(is_replica):
        return "it is a replica, which can only be read; let DATABASE_URL lead to the primary server."
    return None


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
    """The revisions that this version knows, newest first. They are numbers, with which their files' names begin."""
    return tuple(sorted((path.name[:4] for path in REVISIONS.glob("[0-9]*.py")), reverse=True))
