"""Many ids as one parameter of a statement, so that a list of any length is the same statement."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from .dialect import is_postgres
from .parameters import USER_ID, given
from .session import db


def listed_ids(on_postgres: bool) -> Any:
    """The ids of the parameter `ids` as a table with the column `value`."""
    ids: Any = given("ids", sa.Text())
    if on_postgres:
        array = sa.cast(ids, postgresql.ARRAY(postgresql.UUID(as_uuid=False)))
        return sa.func.unnest(array).table_valued("value", name="listed").render_derived()
    return sa.func.json_each(ids).table_valued("value", name="listed")


def select_listed(columns: Iterable[Any], key: Any, *, on_postgres: bool) -> Any:
    """A query for these columns of the user's rows whose `key`, a column of their table, is one of the ids.

    Without statistics SQLite would begin a join with all rows of the user, and look for each in the list.
    """
    listed, model = listed_ids(on_postgres), key.class_
    query, own = sa.select(*columns), model.user_id == USER_ID
    if on_postgres:
        return query.select_from(listed).join(model, sa.and_(own, key == listed.c.value))
    return query.where(own, key.in_(sa.select(listed.c.value)))


def ids_value(ids: Iterable[str]) -> str:
    """The value of that parameter. The ids must be known to be UUIDs."""
    quote, brackets = ("", "{}") if is_postgres(db.engine) else ('"', "[]")
    return f"{brackets[0]}{','.join(f'{quote}{each}{quote}' for each in ids)}{brackets[1]}"
