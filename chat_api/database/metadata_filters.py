"""Conditions on metadata, which is a JSON object of texts in a column."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from .parameters import given


def has_pairs(metadata: Any, on_postgres: bool) -> sa.ColumnElement[bool]:
    """Whether metadata has all of the parameter `pairs`, a JSON object, too."""
    pairs = given("pairs", sa.Text())
    if on_postgres:
        return sa.cast(metadata, postgresql.JSONB).op("@>")(sa.cast(pairs, postgresql.JSONB))
    wanted = sa.func.json_each(pairs).table_valued("key", "value", name="wanted")
    theirs = sa.func.json_each(metadata).table_valued("key", "value", name="theirs")
    has_it = sa.exists().where(theirs.c.key == wanted.c.key, theirs.c.value == wanted.c.value)
    return sa.and_(metadata.is_not(None), sa.not_(sa.exists().select_from(wanted).where(sa.not_(has_it))))
