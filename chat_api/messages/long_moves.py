"""Moves the active path far, in steps that are short on SQLite (`database.bulk`).

First back to the fork, then on to the message. After each step the path is shorter or longer, but whole, so readers
see nothing that could not be, and a move that was interrupted is only to be asked for again.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa

from ..conversations.models import Conversation
from ..database.bulk import with_rests
from ..database.parameters import CONVERSATION_ID, USER_ID
from ..database.session import db
from ..database.statements import Statement
from ..errors import NotFound, Unavailable
from . import active_path
from .active_path import Branch, LongMove

TRIES = 5

Result = TypeVar("Result")

_LEAF = Statement(
    sa.select(Conversation.active_leaf_id, Conversation.hidden_by).where(
        Conversation.user_id == USER_ID, Conversation.id == CONVERSATION_ID
    )
)


def after_long_moves_and_commit(act: Callable[[bool], Result]) -> Result:
    """What `act` returns, which moves a path in its transaction; where that would be a long move, it is done before.

    `act` gets whether it was. What stands in the way of it is said before anything is moved. Raises Unavailable where
    others keep moving the path.
    """
    for attempt in range(TRIES):
        try:
            return act(attempt > 0)
        except LongMove as move:
            target: dict[str, Any] = move.target
        db.session.rollback()
        for _ in with_rests(move_in_steps(**target)):
            db.session.commit()
        db.session.rollback()  # the lock with which it found that nothing is left
    raise Unavailable("Other requests keep moving the active path of this conversation; retry.")


def move_in_steps(
    *, user_id: str, conversation_id: str, message_id: str | None, hidden_by: str | None = None
) -> Iterator[None]:
    """Move the path in steps, each to be committed. Ends early where somebody else has moved it in between.

    `hidden_by` is what hides the conversation, if something does. Raises NotFound for what is not there, or not any
    more.
    """
    own = {"user_id": user_id, "conversation_id": conversation_id}
    leaf, branch = _leaf(**own, hidden_by=hidden_by), Branch([], 0)
    if message_id is not None:
        branch = active_path.branch_of(user_id=user_id, message_id=message_id)
    if _lock_leaf(**own, hidden_by=hidden_by) != leaf:
        return
    most = active_path.LONGEST_MOVE
    # one more: where the path ends then, if that is not the fork
    end: tuple[str, int] | None
    while left := active_path.end_of_path(**own, fork=branch.fork, limit=most + 1):
        if len(left) > most:
            end = left[most]
        else:
            end = next(
                iter(active_path.end_of_path(**own, fork=branch.fork - 1, limit=most + 2)[len(left) :]), None
            )
        active_path.shorten_path(**own, leaf=end)
        yield
        leaf = end and end[0]
        if _lock_leaf(**own, hidden_by=hidden_by) != leaf:
            return
    entering = [message.id for message in reversed(branch.messages)]
    for begin in range(0, len(entering), most):
        chunk = entering[begin : begin + most]
        active_path.extend_path(**own, message_ids=chunk)
        yield
        if _lock_leaf(**own, hidden_by=hidden_by) != chunk[-1]:
            return


def _lock_leaf(*, user_id: str, conversation_id: str, hidden_by: str | None) -> str | None:
    """The active leaf; nobody else moves it until the transaction ends. Raises NotFound."""
    own = (Conversation.user_id == user_id, Conversation.id == conversation_id)
    db.session.execute(sa.select(Conversation.id).where(*own).with_for_update())
    return _leaf(user_id=user_id, conversation_id=conversation_id, hidden_by=hidden_by)


def _leaf(*, user_id: str, conversation_id: str, hidden_by: str | None) -> str | None:
    row = _LEAF.first(user_id=user_id, conversation_id=conversation_id)
    if row is None or (str(row[1]) if row[1] else None) != hidden_by:
        raise NotFound("conversation")
    return str(row[0]) if row[0] else None
