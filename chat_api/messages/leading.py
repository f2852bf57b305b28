"""The messages that lead to one, found by going up the tree from it."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from ..database.parameters import MESSAGE_ID, USER_ID, given
from ..database.statements import Statement
from .conditions import IN_VISIBLE
from .models import Message
from .service import list_by_ids


def _way_up() -> sa.Select[Any]:
    """Each step looks its message up by the key, as `active_path.ancestors` does."""
    number: sa.ColumnElement[int] = sa.literal_column("1").label("number")
    first = sa.select(Message.id, Message.parent_id, number)
    way = first.where(Message.user_id == USER_ID, Message.id == MESSAGE_ID, IN_VISIBLE).cte(
        "way", recursive=True
    )
    parent = aliased(Message)
    above = sa.select(parent.parent_id).where(parent.user_id == USER_ID, parent.id == way.c.parent_id)
    step = sa.select(way.c.parent_id, above.scalar_subquery(), way.c.number + sa.literal_column("1"))
    is_next = (way.c.parent_id.is_not(None), way.c.number < given("count", sa.Integer()))
    return sa.select(way.union_all(step.where(*is_next)).c.id)


_WAY_UP = Statement(_way_up())


def list_leading(*, user_id: str, message_id: str, count: int) -> list[dict[str, Any]]:
    """The last so many messages that lead to a message, itself included, oldest first."""
    if not count:
        return []
    rows = _WAY_UP.all(user_id=user_id, message_id=message_id, count=count)
    return list_by_ids(user_id=user_id, message_ids=[str(row[0]) for row in rows])
