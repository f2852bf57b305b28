"""Very many rows at once: inserted in as few statements as it takes, and written or deleted batch by batch.

SQLite has one writer at a time, so what takes long is a series of steps, each a transaction that ends soon. With
`with_rests` others write between them. Each step leaves what every reader may see, and what a repetition finishes.
"""

import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from .dialect import is_postgres
from .fleet_lock import only_long_write
from .session import db

LONGEST_REST_S = 0.2
PAUSED = (
    object()
)  # a step that has done nothing, because it would have to wait for something but the database
PAUSE_S = 0.02
# others that wait for the end of a rest get the lock before the one that has rested
LET_OTHERS_GO_FIRST_S = 0.001
ROWS_ON_POSTGRES = 10_000
ROWS_ON_SQLITE = 200


def rows_at_once() -> int:
    """How many small rows a step writes."""
    return ROWS_ON_POSTGRES if is_postgres(db.engine) else ROWS_ON_SQLITE


def with_rests(steps: Iterator[Any]) -> Iterator[Any]:
    """The steps of a long write, each to be committed by the caller before the next one begins.

    After a step that is PAUSED others go on for a moment: whoever it waits for may need what is held here.
    On SQLite a step is followed by a rest that is as long. Steps and rests of all that is written like this, in all
    threads and processes, come one after the other: however many clients ask for such writes, half of the time is
    left to the others.
    """
    if is_postgres(db.engine):
        for step in steps:
            yield step
            if step is PAUSED:
                time.sleep(PAUSE_S)
        return
    end = object()
    while True:
        with only_long_write():
            began = time.monotonic()
            step = next(steps, end)
            if step is end:
                return
            yield step
            if step is not PAUSED:
                time.sleep(min(time.monotonic() - began, LONGEST_REST_S))
        time.sleep(PAUSE_S if step is PAUSED else LET_OTHERS_GO_FIRST_S)


def delete_owned_rows(*, user_id: str) -> Iterator[None]:
    """Delete all rows of a user in all owned tables, children before parents; in steps, each to be committed.

    Any table may be one of them: whether it is owned, and what points at it, is read from the schema. The foreign keys
    would do it in one statement, which for a million rows takes longer than any statement may.
    """
    for table in reversed([table for table in db.metadata.sorted_tables if "user_id" in table.c]):
        key = [column for column in table.primary_key if column.name != "user_id"]
        if not key:  # the key of one row
            db.session.execute(sa.delete(table).where(table.c.user_id == user_id))
            yield
            continue
        yield from _delete_by_key(table, key, user_id)


def _delete_by_key(table: sa.Table, key: list[Any], user_id: str) -> Iterator[None]:
    """Each batch is a range of the key: joined with a list of keys instead, Postgres may go through all that the owner
    has for each key, where its statistics expect little of it."""
    limit = rows_at_once()
    batch = sa.select(*key).where(table.c.user_id == user_id).order_by(*key).limit(limit)
    while found := db.session.execute(batch).all():
        upto = sa.tuple_(*key) <= sa.tuple_(*found[-1], types=[column.type for column in key])
        db.session.execute(sa.delete(table).where(table.c.user_id == user_id, upto))
        yield
        if len(found) < limit:
            return


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


def list_foreign_keys() -> list[tuple[sa.Table, sa.ForeignKeyConstraint]]:
    """Each foreign key with the table that has it, parents before children."""
    return [(table, key) for table in db.metadata.sorted_tables for key in table.foreign_key_constraints]


def delete_children(model: Any, *, user_id: str, ids: list[str], limit: int) -> bool:
    """Delete rows of other tables that go with these rows of a user, at most `limit`; whether some may be left.

    For what a client may have added by the thousand to one row, which a cascade would delete in one statement.
    """
    for table in db.metadata.sorted_tables:
        for key in table.foreign_key_constraints:
            if key.referred_table is not model.__table__ or "user_id" not in table.c:
                continue
            [column] = [element.parent for element in key.elements if element.parent.name != "user_id"]
            own = [each for each in table.primary_key if each.name != "user_id"]
            children = sa.select(*own).where(table.c.user_id == user_id, column.in_(ids)).limit(limit)
            found = [tuple(row) for row in db.session.execute(children)]
            if found:
                is_found = (
                    sa.tuple_(*own).in_(found) if len(own) > 1 else own[0].in_([row[0] for row in found])
                )
                db.session.execute(sa.delete(table).where(table.c.user_id == user_id, is_found))
            limit -= len(found)
            if limit <= 0:
                return True
    return False
