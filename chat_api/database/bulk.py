"""Very many rows at once: deleted in statements that each end in time, inserted in as few as it takes. All of it is
in the caller's transaction."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from .dialect import is_postgres
from .session import db

BATCH_ROWS = 10_000


def delete_in_batches(
    table: sa.Table, *conditions: sa.ColumnElement[bool], order: sa.Column[Any] | None = None
) -> None:
    """Delete the rows of an owned table that meet the conditions, one of which names the owner; in the order of the
    primary key, or of another column that follows those of the conditions in an index.

    A cascade would do it in one statement, which for a million messages takes longer than any statement may. Each
    batch is a range of an index: joined with a list of keys instead, Postgres may go through all that the owner has
    for each key, where its statistics expect little of it.
    """
    key = [column for column in table.primary_key if column.name != "user_id"] if order is None else [order]
    cursor = sa.tuple_(*key) if len(key) > 1 else key[0]
    batch = sa.select(*key).where(*conditions).order_by(*key).limit(BATCH_ROWS)
    delete = sa.delete(table).where(*conditions)
    remaining: tuple[sa.ColumnElement[bool], ...] = ()
    while found := db.session.execute(batch.where(*remaining)).all():
        last = sa.tuple_(*found[-1], types=[column.type for column in key]) if len(key) > 1 else found[-1][0]
        db.session.execute(delete.where(*remaining, cursor <= last))
        if len(found) < BATCH_ROWS:
            return
        remaining = (cursor > last,)


def delete_owned_rows(*, user_id: str) -> None:
    """Delete all rows of a user in all owned tables, children before parents.

    Any table may be one of them: whether it is owned, and what points at it, is read from the schema. The rows at the
    top of the user's tree are locked first, as whoever writes below one (in a conversation) does that first, too.
    """
    owned = [table for table in db.metadata.sorted_tables if "user_id" in table.c]
    parents = {key.column.table for table in owned for key in table.foreign_keys} & set(owned)
    for table in owned:
        if table in parents and not any(key.column.table in owned for key in table.foreign_keys):
            locked = sa.select(table.c.id).where(table.c.user_id == user_id).with_for_update()
            db.session.execute(sa.select(sa.func.count()).select_from(locked.subquery()))
    for table in reversed(owned):
        if len(table.primary_key) > 1:
            delete_in_batches(table, table.c.user_id == user_id)
        else:  # the key of one row
            db.session.execute(sa.delete(table).where(table.c.user_id == user_id))


def insert_rows(model: Any, rows: list[dict[str, Any]]) -> None:
    """Insert whole rows, all with the same columns, past the unit of work: nobody has them loaded.

    Postgres gets each column as an array: a row costs it 13 us so, and 150 as a statement of its own, in a pipeline.
    """
    connection = db.session.connection()
    if not is_postgres(connection):
        connection.execute(sa.insert(model), rows)
        return
    types = model.__table__.c
    arrays = [
        sa.bindparam(name, [row[name] for row in rows], type_=postgresql.ARRAY(types[name].type))
        for name in rows[0]
    ]
    source = sa.func.unnest(*arrays).table_valued(*rows[0]).render_derived()
    connection.execute(sa.insert(model).from_select(list(rows[0]), sa.select(*source.c)))
