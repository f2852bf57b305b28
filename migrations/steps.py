"""The steps of which revisions consist. Each can be repeated: a step that was done already does nothing.

An upgrade may be killed at any moment, and the next one begins with the first step of the same revision. A revision
runs in one transaction, except for the steps that say that they commit; so what comes before one of these may be
done already, and the steps after it not yet.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import context, op

from migrations.distribution import distribute, refer

f = op.f  # marks a name as final, in what `make migration` writes

LEAST_ID = "00000000-0000-0000-0000-000000000000"
REPEATABLE = (
    "CREATE VIEW IF NOT EXISTS ",
    "CREATE VIRTUAL TABLE IF NOT EXISTS ",
    "CREATE TRIGGER IF NOT EXISTS ",
    "DROP TABLE IF EXISTS ",
    "DROP TRIGGER IF EXISTS ",
    "DROP VIEW IF EXISTS ",
)


def create_table(
    name: str, *items: sa.schema.SchemaItem, owner: str | None = "user_id", colocate_with: str = "default"
) -> None:
    """Create a table; on Citus distribute it by the column of its owner, or with None copy it to every node."""
    if not context.is_offline_mode() and sa.inspect(op.get_bind()).has_table(name):
        return
    op.create_table(name, *items, if_not_exists=True)
    if owner is None:
        refer(name)
    else:
        distribute(name, owner, colocate_with=colocate_with)


def add_column(table: str, column: sa.Column[Any]) -> None:
    """Add a column to a table."""
    if _is_on_postgres():
        op.add_column(table, column, if_not_exists=True)
    elif not _has_column(table, column.name):
        op.add_column(table, column)


def widen_text(table: str, column: str, length: int) -> None:
    """Let a column take longer text: on Postgres without reading its rows, on SQLite lengths mean nothing anyway."""
    if _is_on_postgres():
        ignored = "-- squawk-ignore changing-column-type\n"  # a longer VARCHAR is no other type to the rows
        op.execute(f"{ignored}ALTER TABLE {table} ALTER COLUMN {column} TYPE VARCHAR({length})")


def create_index(name: str, table: str, columns: list[str], **options: Any) -> None:
    """Index a table that this revision creates. One with rows: `create_index_concurrently`."""
    op.create_index(name, table, columns, if_not_exists=True, **options)


def create_index_concurrently(name: str, table: str, columns: list[str], **options: Any) -> None:
    """Index a table that the service writes meanwhile; commits, before and after.

    On Postgres an interrupted one leaves an invalid index, which keeps the name and is of no use.
    """
    with op.get_context().autocommit_block():
        is_online = _is_on_postgres() and not context.is_offline_mode()
        if is_online:
            op.execute("SET lock_timeout = 0")  # it waits for transactions of others, and nobody waits for it
            if _is_invalid(name):
                op.drop_index(name, table, postgresql_concurrently=True, if_exists=True)
        op.create_index(name, table, columns, if_not_exists=True, postgresql_concurrently=True, **options)
        if is_online:
            op.execute("RESET lock_timeout")


def drop_table(name: str) -> None:
    """Drop a table."""
    op.drop_table(name, if_exists=True)


def drop_column(table: str, name: str) -> None:
    """Drop a column of a table."""
    if _is_on_postgres():
        op.drop_column(table, name, if_exists=True)
    elif _has_column(table, name):
        op.drop_column(table, name)


def drop_index(name: str, table_name: str) -> None:
    """Drop an index of a table."""
    op.drop_index(name, table_name, if_exists=True)


def execute(statement: str) -> None:
    """Run a statement whose own words make it repeatable. Raises ValueError for others: see REPEATABLE."""
    if not statement.startswith(REPEATABLE):
        raise ValueError(f"Not repeatable, or not known to be: {statement}")
    op.execute(statement)


def keep_no_statistics(table: str, *columns: str) -> None:
    """Have Postgres plan queries without statistics of these columns."""
    if _is_on_postgres():
        for column in columns:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0")


def insert_missing(table: str, columns: list[str], query: str) -> None:
    """Insert the rows that a query finds, but those whose key is there already. For few rows: users, not messages."""
    op.execute(f"INSERT INTO {table} ({', '.join(columns)}) {query} ON CONFLICT DO NOTHING")


def update_in_one(statement: str) -> None:
    """Run an UPDATE in the transaction of the revision: it is undone together with the rest, or done together.

    For downgrades, and for scripts that are written offline. An upgrade of rows by the million: `update_in_batches`.
    """
    op.execute(statement)


def update_in_batches(batch: Callable[[sa.Connection], bool]) -> None:
    """Run a batch until it says that nothing is left; commits after each, so that a kill costs one batch.

    The batch looks in the tables for what is left to do, and its statements can be repeated.
    """
    is_left = True
    while is_left:
        with op.get_context().autocommit_block():
            is_left = batch(op.get_bind())


def update_conversations(change: str, where: str, *, at_once: int) -> None:
    """Run `UPDATE conversations SET {change} WHERE {where}` in batches of `at_once`, see `update_in_batches`.

    A change has to make its `where` false, or be one that can be made again.
    """
    if context.is_offline_mode():
        update_in_one(f"UPDATE conversations SET {change} WHERE {where}")
    else:
        update_in_batches(_Conversations(change, where, at_once).update_some)


class _Conversations:
    """Goes through the conversations once, in the order of their key."""

    def __init__(self, change: str, where: str, at_once: int) -> None:
        keys = f"SELECT user_id, id FROM conversations WHERE {where} AND (user_id, id) > (:user_id, :id)"
        self._next = sa.text(f"{keys} ORDER BY user_id, id LIMIT {at_once}")
        span = "(user_id, id) > (:user_id, :id) AND (user_id, id) <= (:to_user, :to_id)"
        self._update = sa.text(f"UPDATE conversations SET {change} WHERE {where} AND {span}")
        self._after = {"user_id": LEAST_ID, "id": LEAST_ID}

    def update_some(self, connection: sa.Connection) -> bool:
        """Update the next ones; whether there were any."""
        found = connection.execute(self._next, self._after).all()
        if not found:
            return False
        last = {"user_id": str(found[-1].user_id), "id": str(found[-1].id)}
        connection.execute(self._update, {**self._after, "to_user": last["user_id"], "to_id": last["id"]})
        self._after = last
        return True


def is_on_sqlite() -> bool:
    """Whether the database is SQLite."""
    return op.get_context().dialect.name == "sqlite"


def _is_on_postgres() -> bool:
    return op.get_context().dialect.name == "postgresql"


def _has_column(table: str, name: str) -> bool:
    return any(column["name"] == name for column in sa.inspect(op.get_bind()).get_columns(table))


def _is_invalid(index: str) -> bool:
    query = sa.text("SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    return bool(op.get_bind().scalar(query, {"name": index}))
