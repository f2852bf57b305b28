"""Parameters of statements, named by one rule.

A parameter that a row is compared with is called as the services call it: `user_id`, `conversation_id`, `message_id`.
A value that a write gives to a column is called `new_<column>`: SQLAlchemy keeps the column's own name for itself.
"""

from typing import Any

import sqlalchemy as sa

from .columns import Id


def given(name: str, kind: Any = None) -> sa.BindParameter[Any]:
    """A value to compare with, of a column's type; of an id if nothing else is said."""
    return sa.bindparam(name, type_=Id() if kind is None else kind)


def new(column: Any) -> sa.BindParameter[Any]:
    """The value that a write gives to this column."""
    return sa.bindparam(f"new_{column.key}", type_=column.type)


USER_ID = given("user_id")
CONVERSATION_ID = given("conversation_id")
MESSAGE_ID = given("message_id")
ROW_LIMIT = given("row_limit", sa.Integer())


def named_new(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters that give these values to the columns of their names."""
    return {f"new_{name}": value for name, value in values.items()}
