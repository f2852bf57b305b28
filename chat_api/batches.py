"""Deleting very many rows: in statements that each end in time, all in the caller's transaction."""

import sqlalchemy as sa

from .extensions import db

DELETED_AT_ONCE = 10_000


def delete_in_batches(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> None:
    """Delete the rows of an owned table that meet the conditions, one of which names the owner.

    A cascade would do it in one statement, which for a million messages takes longer than any statement may.
    """
    key = [column for column in table.primary_key if column.name != "user_id"]
    batch = sa.select(*key).where(*conditions).limit(DELETED_AT_ONCE)
    delete = sa.delete(table).where(*conditions, sa.tuple_(*key).in_(batch)).returning(*key)
    while len(db.session.scalars(delete).all()) == DELETED_AT_ONCE:
        pass
