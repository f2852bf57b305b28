"""The active path of a conversation: which of its branches is read, and goes on with the next message.

Messages form a tree by their `parent_id`. The active path leads from a first message to the conversation's active
leaf; its messages are marked, so that reading it is one keyset read whatever other branches there are. Whoever moves
it holds the lock on the conversation's row, as does whoever appends, so it never breaks.

Moving it costs a row for each message that enters or leaves it. On SQLite nobody else writes during that, so a long
move is refused (`LongMove`) until `long_moves` has done most of it in steps.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from ..conversations.models import Conversation
from ..database.dialect import is_postgres
from ..database.parameters import CONVERSATION_ID, MESSAGE_ID, ROW_LIMIT, USER_ID, given, new
from ..database.session import db
from ..database.statements import Statement
from ..errors import Conflict, NotFound
from .conditions import IN_CONVERSATION, IN_VISIBLE, IS_COUNTED, ON_PATH, THIS_CONVERSATION
from .models import Message
from .repair import CAN_APPEND, repair_for_append


def moved_path(leaf_id: Any, growth: Any) -> dict[str, Any]:
    """The columns of a conversation whose active path ends at another message, and is longer by this.

    A length that is not that of the active path stays as it is, together with the leaf that it belongs to.
    """
    return {
        "active_leaf_id": leaf_id,
        "path_length": sa.case(
            (IS_COUNTED, Conversation.path_length + growth), else_=Conversation.path_length
        ),
        "counted_leaf_id": sa.case((IS_COUNTED, leaf_id), else_=Conversation.counted_leaf_id),
    }


_LOCK = Statement(
    sa.select(Conversation.active_leaf_id, CAN_APPEND).where(*THIS_CONVERSATION).with_for_update()
)
# by the key alone: with the conversation named, too, Postgres may look for the id among all messages there
_CONVERSATION_OF = Statement(
    sa.select(Message.conversation_id).where(Message.user_id == USER_ID, Message.id == MESSAGE_ID, IN_VISIBLE)
)


def ancestors() -> sa.CTE:
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


GREATEST_POSITION = 2**31 - 1
LONGEST_MOVE = 500  # messages, in one transaction on SQLite: about 10 ms

_ancestor = ancestors()
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
# so many of them that a longer way is noticed
_NEAREST = Statement(sa.select(_ancestor.c.position, _ancestor.c.on_path).limit(ROW_LIMIT))
_AFTER = Statement(
    sa.select(Message.id, Message.position)
    .where(*IN_CONVERSATION, ON_PATH, Message.position > given("fork", sa.Integer()))
    .order_by(Message.position.desc())
    .limit(ROW_LIMIT)
)
# whether it is visible is checked where it is locked
_SET_LEAF = Statement(
    sa.update(Conversation)
    .where(Conversation.user_id == USER_ID, Conversation.id == CONVERSATION_ID)
    .values(moved_path(new(Conversation.active_leaf_id), given("growth", sa.Integer())))
)
_LENGTH = Statement(sa.select(Conversation.path_length, IS_COUNTED).where(*THIS_CONVERSATION))
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


class LongMove(Conflict):
    """Moving the path would keep other writers waiting; `long_moves` does it in steps and tries again."""

    def __init__(self, *, user_id: str, conversation_id: str, message_id: str | None) -> None:
        super().__init__("The active path is far from this message: it is moved in steps.")
        self.target = {"user_id": user_id, "conversation_id": conversation_id, "message_id": message_id}


def set_active_leaf(*, user_id: str, conversation_id: str, message_id: str | None) -> None:
    """Make this message the active leaf; None: no active path. Costs a row for each message that enters or leaves it.

    Inside a transaction. Raises NotFound where the user has no such conversation, or no such message in it; and
    LongMove, before anything is written.
    """
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    row = _LOCK.first(**scope)
    if row is None:
        raise NotFound("conversation")
    leaf_id, can_append = row
    if not can_append:
        repair_for_append(**scope)
        leaf_id = _LOCK.all(**scope)[0][0]
    if (str(leaf_id) if leaf_id else None) == message_id:
        return
    fork = None
    if message_id is not None:
        found = _CONVERSATION_OF.first(user_id=user_id, message_id=message_id)
        if found is None or str(found[0]) != conversation_id:
            raise NotFound("message in this conversation")
    if not is_postgres(db.engine):
        _require_short_move(**scope, message_id=message_id)
    if message_id is not None:
        fork = _FORK.first(user_id=user_id, message_id=message_id)
    growth = -len(_LEAVE_PATH.all(**scope, fork=fork[0] if fork else 0))
    if message_id is not None:
        growth += len(_ENTER_PATH.all(user_id=user_id, message_id=message_id))
    _SET_LEAF.all(**scope, new_active_leaf_id=message_id, growth=growth)


def _require_short_move(*, user_id: str, conversation_id: str, message_id: str | None) -> None:
    """Raise LongMove where more messages enter or leave the path than one transaction is to mark. Reads as many."""
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    too_many, fork = LONGEST_MOVE + 1, 0
    if message_id is not None:
        way = _NEAREST.all(user_id=user_id, message_id=message_id, row_limit=too_many)
        found = [position for position, is_on_path in way if is_on_path]
        if not found and len(way) == too_many:
            raise LongMove(**scope, message_id=message_id)
        fork = found[0] if found else 0
    if len(_AFTER.all(**scope, fork=fork, row_limit=too_many)) == too_many:
        raise LongMove(**scope, message_id=message_id)


def path_length(*, user_id: str, conversation_id: str) -> int:
    """How many messages the active path has; kept with the conversation, so it costs the same for any number.

    They are counted where a release that keeps no length has moved the path.
    """
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    row = _LENGTH.first(**scope)
    if row is None:
        return 0
    length, is_counted = row
    return length if is_counted else _COUNT_UP_TO.all(**scope, fork=GREATEST_POSITION)[0][0]


def find_branch(*, user_id: str, conversation_id: str, message_id: str) -> Branch:
    """The branch of a message, found by going up the tree; nothing is moved or locked.

    Raises NotFound where the user has no such message in this conversation.
    """
    found = _CONVERSATION_OF.first(user_id=user_id, message_id=message_id)
    if found is None or str(found[0]) != conversation_id:
        raise NotFound("message in this conversation")
    return branch_of(user_id=user_id, message_id=message_id)


def branch_of(*, user_id: str, message_id: str) -> Branch:
    """The branch of a message, whatever conversation it is in, and whoever sees that."""
    branch, fork = [], 0
    for id_, position, is_on_path, role, size_bytes in _BRANCH.all(user_id=user_id, message_id=message_id):
        if is_on_path:
            fork = position
        else:
            branch.append(BranchMessage(str(id_), position, role, size_bytes))
    return Branch(branch, fork)


def end_of_path(*, user_id: str, conversation_id: str, fork: int, limit: int) -> list[tuple[str, int]]:
    """Id and position of the path's messages after a position, newest first, at most so many."""
    rows = _AFTER.all(user_id=user_id, conversation_id=conversation_id, fork=fork, row_limit=limit)
    return [(str(id_), position) for id_, position in rows]


def shorten_path(*, user_id: str, conversation_id: str, leaf: tuple[str, int] | None) -> None:
    """End the path of a locked conversation at one of its messages, with id and position, or nowhere."""
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    message_id, position = leaf or (None, 0)
    growth = -len(_LEAVE_PATH.all(**scope, fork=position))
    _SET_LEAF.all(**scope, new_active_leaf_id=message_id, growth=growth)


def extend_path(*, user_id: str, conversation_id: str, message_ids: Sequence[str]) -> None:
    """Continue the path of a locked conversation with messages that each reply to the one before. Raises NotFound
    where one is gone."""
    entering = (Message.user_id == user_id, Message.id.in_(message_ids))
    mark = sa.update(Message).where(*entering).values(on_path=sa.true())
    if db.session.connection().execute(mark).rowcount != len(message_ids):
        raise NotFound("message in this conversation")
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    _SET_LEAF.all(**scope, new_active_leaf_id=message_ids[-1], growth=len(message_ids))


def branch_length(*, user_id: str, conversation_id: str, branch: Branch) -> int:
    """How many messages lead to the end of a branch. Costs as much as there are on the active path."""
    row = _COUNT_UP_TO.first(user_id=user_id, conversation_id=conversation_id, fork=branch.fork)
    return len(branch.messages) + (row[0] if row else 0)
