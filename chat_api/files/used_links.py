"""Which links for a single use were used: each is a row until the link would have expired by itself."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..database.columns import now
from ..database.parameters import USER_ID, given, named_new, new
from ..database.session import db
from ..database.statements import IntegrityFailed, Statement
from .models import UsedLink

BATCH = 500

_FIND = Statement(sa.select(UsedLink.id).where(UsedLink.user_id == USER_ID, UsedLink.id == given("link_id")))


def _insert(on_postgres: bool) -> sa.Executable:
    """Nothing where the row is there: of two at the same time, one gets the id back."""
    insert: Any = (postgresql if on_postgres else sqlite).insert(UsedLink)
    columns = (UsedLink.user_id, UsedLink.id, UsedLink.created_at, UsedLink.expires_at)
    row = insert.values({column.key: new(column) for column in columns})
    return row.on_conflict_do_nothing(index_elements=["user_id", "id"]).returning(UsedLink.id)


_USE = Statement(_insert)


def is_used(*, user_id: str, link_id: str) -> bool:
    """Whether the link was used before."""
    return _FIND.first(user_id=user_id, link_id=link_id) is not None


def use_and_commit(*, user_id: str, link_id: str, expires_at: datetime) -> bool:
    """Use the link up; whether this was the first use. A link of a user who was deleted has none."""
    row = {"user_id": user_id, "id": link_id, "created_at": now(), "expires_at": expires_at}
    try:
        return _USE.first_and_commit(**named_new(row)) is not None
    except IntegrityFailed:
        return False


def delete_expired_and_commit() -> int:
    """Delete a batch of rows whose links have expired; how many."""
    query = sa.select(UsedLink.user_id, UsedLink.id).where(UsedLink.expires_at <= now())
    rows = db.session.execute(query.limit(BATCH)).all()
    for user_id, link_id in rows:
        db.session.execute(sa.delete(UsedLink).where(UsedLink.user_id == user_id, UsedLink.id == link_id))
    db.session.commit()
    return len(rows)
