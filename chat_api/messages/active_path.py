"""The active path of a conversation: which of its branches is read, and goes on with the next message.

Messages form a tree by their `parent_id`. The active path leads from a first message to the conversation's active
leaf; its messages are marked, so that reading it is one keyset read whatever other branches there are. Whoever moves
it holds the lock on the conversation's row, as does whoever appends, so it never breaks.
"""

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from ..conversations.models import Conversation
from ..database.parameters import CONVERSATION_ID, MESSAGE_ID, USER_ID, given, new
from ..database.statements import Statement
from ..errors import NotFound
from .models import Message

IN_CONVERSATION = (Message.user_id == USER_ID, Message.conversation_id == CONVERSATION_ID)
# as the partial index has it, and of no type: for a Boolean SQLAlchemy writes `= 1` on SQLite, which that does not
# take for the same
ON_PATH: sa.ColumnElement[Any] = sa.literal_column("messages.on_path")
THIS_CONVERSATION = (Conversation.user_id == USER_ID, Conversation.id == CONVERSATION_ID)

_LOCK = Statement(sa.select(Conversation.active_leaf_id).where(*THIS_CONVERSATION).with_for_update())
# by the key alone: with the conversation named, too, Postgres may look for the id among all messages there
_CONVERSATION_OF = Statement(
    sa.select(Message.conversation_id).where(Message.user_id == USER_ID, Message.id == MESSAGE_ID)
)


def _ancestors() -> sa.CTE:
    """The message and its ancestors, up to the first one that is on the active path already.

    Each step looks its message up by the key: joined instead, Postgres may go through all of the user's messages for
    each step, where its statistics expect few of them.
    """
    first = sa.select(Message.id, Message.parent_id, Message.position, ON_PATH.label("on_path"))
    way = first.where(Message.user_id == USER_ID, Message.id == MESSAGE_ID).cte("ancestors", recursive=True)
    parent = aliased(Message)
    is_parent = (parent.user_id == USER_ID, parent.id == way.c.parent_id)
    columns = [
        sa.select(column).where(*is_parent).scalar_subquery()
        for column in (parent.parent_id, parent.position, parent.on_path)
    ]
    return way.union_all(
        sa.select(way.c.parent_id, *columns).where(way.c.parent_id.is_not(None), sa.not_(way.c.on_path))
    )


_ancestor = _ancestors()
_FORK = Statement(sa.select(_ancestor.c.position).where(_ancestor.c.on_path))
_LEAVE_PATH = Statement(
    sa.update(Message)
    .where(*IN_CONVERSATION, ON_PATH, Message.position > given("fork", sa.Integer()))
    .values(on_path=sa.false())
    .returning(Message.position)
)
_ENTER_PATH = Statement(
    sa.update(Message)
    .where(
        Message.user_id == USER_ID,
        Message.id.in_(sa.select(_ancestor.c.id).where(sa.not_(_ancestor.c.on_path))),
    )
    .values(on_path=sa.true())
    .returning(Message.position)
)
_SET_LEAF = Statement(
    sa.update(Conversation)
    .where(*THIS_CONVERSATION)
    .values(
        active_leaf_id=new(Conversation.active_leaf_id),
        path_length=Conversation.path_length + given("growth", sa.Integer()),
    )
)
_LENGTH = Statement(sa.select(Conversation.path_length).where(*THIS_CONVERSATION))
_COUNT_UP_TO = Statement(
    sa.select(sa.func.count())
    .select_from(Message)
    .where(*IN_CONVERSATION, ON_PATH, Message.position <= given("fork", sa.Integer()))
)


def _branch() -> sa.Select[Any]:
    its = (Message.user_id == USER_ID, Message.id == _ancestor.c.id)
    looked_up = [
        sa.select(column).where(*its).scalar_subquery() for column in (Message.role, Message.size_bytes)
    ]
    way = (_ancestor.c.id, _ancestor.c.position, _ancestor.c.on_path)
    return sa.select(*way, *looked_up).order_by(_ancestor.c.position.desc())


_BRANCH = Statement(_branch())


class BranchMessage(NamedTuple):
    """A message that is not on the active path, without its content."""

    id: str
    position: int
    role: str
    size_bytes: int


class Branch(NamedTuple):
    """How a message continues the active path, as it was when this was read."""

    messages: list[BranchMessage]
    """The message and those of its ancestors that are not on the path, newest first."""
    fork: int
    """The position of the newest ancestor that is on the path; 0 where there is none."""


def set_active_leaf(*, user_id: str, conversation_id: str, message_id: str | None) -> None:
    """Make this message the active leaf; None: no active path. Costs a row for each message that enters or leaves it.

    Inside a transaction. Raises NotFound where the user has no such conversation, or no such message in it.
    """
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    row = _LOCK.first(**scope)
    if row is None:
        raise NotFound("conversation")
    if (str(row[0]) if row[0] else None) == message_id:
        return
    fork = None
    if message_id is not None:
        found = _CONVERSATION_OF.first(user_id=user_id, message_id=message_id)
        if found is None or str(found[0]) != conversation_id:
            raise NotFound("message in this conversation")
        fork = _FORK.first(user_id=user_id, message_id=message_id)
    growth = -len(_LEAVE_PATH.all(**scope, fork=fork[0] if fork else 0))
    if message_id is not None:
        growth += len(_ENTER_PATH.all(user_id=user_id, message_id=message_id))
    _SET_LEAF.all(**scope, new_active_leaf_id=message_id, growth=growth)


def path_length(*, user_id: str, conversation_id: str) -> int:
    """How many messages the active path has; kept with the conversation, so it costs the same for any number."""
    row = _LENGTH.first(user_id=user_id, conversation_id=conversation_id)
    return row[0] if row else 0


def find_branch(*, user_id: str, conversation_id: str, message_id: str) -> Branch:
    """The branch of a message, found by going up the tree; nothing is moved or locked.

    Raises NotFound where the user has no such message in this conversation.
    """
    found = _CONVERSATION_OF.first(user_id=user_id, message_id=message_id)
    if found is None or str(found[0]) != conversation_id:
        raise NotFound("message in this conversation")
    branch, fork = [], 0
    for id_, position, is_on_path, role, size_bytes in _BRANCH.all(user_id=user_id, message_id=message_id):
        if is_on_path:
            fork = position
        else:
            branch.append(BranchMessage(str(id_), position, role, size_bytes))
    return Branch(branch, fork)


def branch_length(*, user_id: str, conversation_id: str, branch: Branch) -> int:
    """How many messages lead to the end of a branch. Costs as much as there are on the active path."""
    row = _COUNT_UP_TO.first(user_id=user_id, conversation_id=conversation_id, fork=branch.fork)
    return len(branch.messages) + (row[0] if row else 0)
