"""Very many rows at once: inserted in as few statements as it takes, and read, written or deleted batch by batch.

SQLite has one writer at a time, so what takes long is a series of steps, each a transaction that ends soon. With
`with_rests` others write between them. Each step leaves what every reader may see, and what a repetition finishes.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from .columns import UTCDateTime, time_text
from .dialect import is_postgres
from .engine import locked_s, reading
from .fleet_lock import only_long_write
from .session import db

Tuple = tuple[Any, ...]

LONGEST_REST_S = 0.2
PAUSED = (
    object()
)  # a step that has done nothing, because it would have to wait for something but the database
PAUSE_S = 0.02
# others that wait for the end of a rest get the lock before the one that has rested
LET_OTHERS_GO_FIRST_S = 0.001
CHECKPOINTS_FROM = 3  # steps: what is over sooner leaves it to SQLite
ROWS_ON_POSTGRES = 10_000
ROWS_ON_SQLITE = 200


def rows_at_once() -> int:
    """How many small rows a step writes."""
    return ROWS_ON_POSTGRES if is_postgres(db.engine) else ROWS_ON_SQLITE


def with_rests(steps: Iterator[Any]) -> Iterator[Any]:
    """The steps of a long write, each to be committed by the caller before the next one begins.

    After a step that is PAUSED others go on for a moment: whoever it waits for may need what is held here.
    On SQLite others can write for as long as a step has kept the only writer's lock: while it prepares what it writes,
    and in a rest that makes up for what is missing. Steps and rests of all that is written like this, in all threads
    and processes, come one after the other: however many clients ask for such writes, half of the time is left to the
    others.
    """
    if is_postgres(db.engine):
        for step in steps:
            yield step
            if step is PAUSED:
                time.sleep(PAUSE_S)
        return
    end, number = object(), 0
    while True:
        with only_long_write():
            began, locked_before_s = time.monotonic(), locked_s()
            step = next(steps, end)
            if step is end:
                return
            yield step
            if step is not PAUSED:
                number += 1
                if number >= CHECKPOINTS_FROM:
                    _checkpoint()
                step_s, step_locked_s = time.monotonic() - began, locked_s() - locked_before_s
                time.sleep(max(0.0, min(2 * step_locked_s - step_s, LONGEST_REST_S)))
        time.sleep(PAUSE_S if step is PAUSED else LET_OTHERS_GO_FIRST_S)


def _checkpoint() -> None:
    """Move what is in SQLite's log to the database, which keeps no writer waiting.

    The commit that finds 1,000 pages in the log would do it, half of an import's commits. It takes as long as a step,
    all of which would count as time with the lock, and be rested; and it may be another user's commit. As there, an
    error is none of whoever has written.
    """
    with suppress(sa.exc.DBAPIError), reading(db.engine).connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")


def read_in_batches(
    key: list[Any],
    *where: Any,
    limit: int,
    also: list[Any] | None = None,
    join: tuple[Any, Any] | None = None,
) -> Iterator[list[tuple[Any, ...]]]:
    """The rows in the order of their key, which is unique, in batches that are not empty; with rests in between.

    Each has the columns of the key, then those of `also`. No transaction stays open while a batch is used, and none
    takes the lock of SQLite's only writer.
    """
    types = [column.type for column in key]
    query = sa.select(*key, *(also or [])).where(*where).order_by(*key).limit(limit)
    if join is not None:
        query = query.outerjoin(*join)
    batch = read(query)
    while batch:
        began = time.monotonic()
        yield batch
        if len(batch) < limit:
            return
        time.sleep(min((time.monotonic() - began) / 2, LONGEST_REST_S))
        last = batch[-1][: len(key)]
        is_later = sa.tuple_(*key) > sa.tuple_(*last, types=types) if len(key) > 1 else key[0] > last[0]
        batch = read(query.where(is_later))


def read(query: Any) -> list[tuple[Any, ...]]:
    """All rows, without a transaction: one of `db.session` takes the lock of SQLite's only writer."""
    with reading(db.engine).connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


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
    """Insert whole rows, all with the same columns, past the unit of work: nobody has them loaded."""
    prepare_rows(model, rows)()


def prepare_rows(model: Any, rows: list[dict[str, Any]]) -> Callable[[], None]:
    """The same in two steps: what takes time and needs no database is done here, the rest by what this returns."""
    columns = tuple(rows[0])
    tuples = ready_tuples(model, columns, map(itemgetter(*columns), rows))
    return lambda: insert_tuples(db.session.connection(), model, columns, tuples)


def ready_tuples(model: Any, columns: Sequence[str], rows: Iterable[Tuple]) -> Iterable[Tuple]:
    """The rows as the driver takes them. COPY takes them as they are, one by one while the server works."""
    if is_postgres(db.engine):
        return rows
    times = [
        index for index, name in enumerate(columns) if isinstance(model.__table__.c[name].type, UTCDateTime)
    ]
    return [_with_texts(row, times) for row in rows] if times else list(rows)


def insert_tuples(
    connection: sa.Connection, model: Any, columns: Sequence[str], tuples: Iterable[Tuple]
) -> None:
    """Insert rows with the values of these columns, in the caller's transaction. Raises SQLAlchemy's errors.

    Past SQLAlchemy, which takes 10 us for a row's parameters: `executemany` takes 1 us on SQLite. On Postgres COPY
    takes 5 us here, columns as arrays take 25, and a statement for each row, in a pipeline, 150. Each row of a COPY
    goes to the node of its user.
    """
    table, names = model.__tablename__, ", ".join(columns)
    if is_postgres(connection):
        _copy(connection, f"COPY {table} ({names}) FROM STDIN", tuples)
        return
    places = ", ".join("?" * len(columns))
    insert = f"INSERT INTO {table} ({names}) VALUES ({places})"  # noqa: S608  names of our own
    connection.exec_driver_sql(insert, list(tuples))


def _with_texts(row: Tuple, times: list[int]) -> Tuple:
    """The row as SQLite's driver takes it."""
    values = list(row)
    for index in times:
        values[index] = time_text(values[index])
    return tuple(values)


def _copy(connection: sa.Connection, sql: str, rows: Iterable[Tuple]) -> None:
    import psycopg  # which SQLite does without

    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(sql) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        raise sa.exc.DBAPIError.instance(
            sql, None, error, psycopg.Error, hide_parameters=True, dialect=connection.dialect
        ) from error


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
