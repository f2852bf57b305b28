"""The active path of a conversation: which of its branches is read, and goes on with the next message.

Messages form a tree by their `parent_id`. The active path leads from a first message to the conversation's active
leaf; its messages are marked, so that reading it is one keyset read whatever lies beside it. Whoever moves it holds
the lock on the conversation's row, as does whoever appends, so it never breaks.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from ..conversations.models import Conversation
from ..database.columns import Id
from ..database.statements import Statement
from ..errors import NotFound
from .models import Message

OWNER = sa.bindparam("owner", type_=Id())
CONVERSATION = sa.bindparam("conversation", type_=Id())
MESSAGE = sa.bindparam("message", type_=Id())
HERE = (Message.user_id == OWNER, Message.conversation_id == CONVERSATION)
# as the partial index has it, and of no type: for a Boolean SQLAlchemy writes `= 1` on SQLite, which that does not
# take for the same
ON_PATH: sa.ColumnElement[Any] = sa.literal_column("messages.on_path")
THIS_CONVERSATION = (Conversation.user_id == OWNER, Conversation.id == CONVERSATION)

_LOCK = Statement(sa.select(Conversation.active_leaf_id).where(*THIS_CONVERSATION).with_for_update())
# by the key alone: with the conversation named, too, Postgres may look for the id among all messages there
_PLACE_OF = Statement(
    sa.select(Message.conversation_id).where(Message.user_id == OWNER, Message.id == MESSAGE)
)


def _way() -> sa.CTE:
    """From the message up to the first ancestor that is on the active path already.

    Each step looks its message up by the key: joined instead, Postgres may go through all of the user's messages for
    each step, where its statistics expect few of them.
    """
    first = sa.select(Message.id, Message.parent_id, Message.position, ON_PATH.label("on_path"))
    way = first.where(Message.user_id == OWNER, Message.id == MESSAGE).cte("way", recursive=True)
    parent = aliased(Message)
    is_next = (parent.user_id == OWNER, parent.id == way.c.parent_id)
    above = [
        sa.select(column).where(*is_next).scalar_subquery()
        for column in (parent.parent_id, parent.position, parent.on_path)
    ]
    return way.union_all(
        sa.select(way.c.parent_id, *above).where(way.c.parent_id.is_not(None), sa.not_(way.c.on_path))
    )


_way_up = _way()
_FORK = Statement(sa.select(_way_up.c.position).where(_way_up.c.on_path))
_LEAVE_PATH = Statement(
    sa.update(Message)
    .where(*HERE, ON_PATH, Message.position > sa.bindparam("fork", type_=sa.Integer()))
    .values(on_path=sa.false())
)
_ENTER_PATH = Statement(
    sa.update(Message)
    .where(
        Message.user_id == OWNER, Message.id.in_(sa.select(_way_up.c.id).where(sa.not_(_way_up.c.on_path)))
    )
    .values(on_path=sa.true())
)
_SET_LEAF = Statement(sa.update(Conversation).where(*THIS_CONVERSATION).values(active_leaf_id=MESSAGE))


def lead_path_to(*, user_id: str, conversation_id: str, message_id: str | None) -> None:
    """Let the active path end at this message, or be empty for None. Costs as much as the path changes.

    Inside a transaction. Raises NotFound where the user has no such conversation, or no such message in it.
    """
    place = {"owner": user_id, "conversation": conversation_id}
    row = _LOCK.first(**place)
    if row is None:
        raise NotFound("conversation")
    if (str(row[0]) if row[0] else None) == message_id:
        return
    fork = None
    if message_id is not None:
        found = _PLACE_OF.first(owner=user_id, message=message_id)
        if found is None or str(found[0]) != conversation_id:
            raise NotFound("message in this conversation")
        fork = _FORK.first(**place, message=message_id)
    _LEAVE_PATH.all(**place, fork=fork[0] if fork else 0)
    if message_id is not None:
        _ENTER_PATH.all(**place, message=message_id)
    _SET_LEAF.all(**place, message=message_id)
