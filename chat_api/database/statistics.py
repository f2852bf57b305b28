"""What Postgres knows of the rows, by which it chooses between indexes."""

import logging

import sqlalchemy as sa

from .dialect import is_postgres
from .session import db

log = logging.getLogger(__name__)


def renew_statistics(*tables: str) -> None:
    """Have Postgres look at these tables now, where so many rows were added that autovacuum would be late.

    At the end of a transaction. Where that takes too long, or another session is at it, it is left to autovacuum.
    """
    if not is_postgres(db.engine):
        return
    try:
        db.session.execute(sa.text(f"ANALYZE (SKIP_LOCKED) {', '.join(tables)}"))
    except sa.exc.OperationalError as error:
        db.session.rollback()
        log.warning("statistics were not renewed", extra={"reason": str(error.orig)})
