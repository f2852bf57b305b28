"""Deletes a message with its descendants, or a whole conversation; in the request's transaction."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from ..conversations.models import Conversation
from ..database.bulk import delete_in_batches
from ..database.session import db
from ..errors import NotFound
from . import service
from .active_path import ON_PATH
from .models import Message

BATCH_ROWS = 1000


def lock_message(*, user_id: str, message_id: str) -> dict[str, Any]:
    """The message, in whose conversation nobody else writes until the transaction ends. Raises NotFound."""
    own = (Message.user_id == user_id, Message.id == message_id)
    is_its = sa.and_(Conversation.user_id == Message.user_id, Conversation.id == Message.conversation_id)
    lock = sa.select(Conversation.id).join(Message, is_its).where(*own).with_for_update(of=Conversation)
    db.session.execute(lock)
    return service.get_message(user_id=user_id, message_id=message_id)


def delete_message(*, user_id: str, message: dict[str, Any]) -> None:
    """Delete a locked message and its descendants. An active path through it ends at its parent from then on."""
    conversation_id = message["conversation_id"]
    is_on_path = service.is_on_path(user_id=user_id, message_id=message["id"])
    path_end = _count_on_path(user_id, conversation_id, message["position"]) if is_on_path else 0
    count = _delete_from(user_id, conversation_id, message["id"], message["position"])
    changes: dict[str, Any] = {"message_count": Conversation.message_count - count}
    if is_on_path:
        changes["active_leaf_id"] = message["parent_id"]
        changes["path_length"] = Conversation.path_length - path_end
    here = (Conversation.user_id == user_id, Conversation.id == conversation_id)
    db.session.execute(sa.update(Conversation).where(*here).values(changes))


def delete_conversation(*, user_id: str, conversation_id: str) -> None:
    """Delete a conversation and all that is in it. Raises NotFound."""
    messages: Any = Message.__table__
    own = (messages.c.user_id == user_id, messages.c.conversation_id == conversation_id)
    delete_in_batches(messages, *own, order=messages.c.position)
    here = (Conversation.user_id == user_id, Conversation.id == conversation_id)
    if db.session.scalar(sa.delete(Conversation).where(*here).returning(Conversation.id)) is None:
        raise NotFound("conversation")


def _count_on_path(user_id: str, conversation_id: str, position: int) -> int:
    """How many messages the active path has from a position on: those that are deleted with the one there."""
    on_path = (Message.user_id == user_id, Message.conversation_id == conversation_id, ON_PATH)
    query = sa.select(sa.func.count()).select_from(Message).where(*on_path, Message.position >= position)
    return db.session.scalar(query) or 0


def _delete_from(user_id: str, conversation_id: str, message_id: str, position: int) -> int:
    """Delete the message and its descendants, and return how many messages that were.

    Descendants have higher positions. Going through those once, in order of position, a message is a descendant if its
    parent is: if that is gone, or goes with the same batch.
    """
    parent = aliased(Message)
    is_parent = sa.and_(parent.user_id == Message.user_id, parent.id == Message.parent_id)
    later = (
        sa.select(Message.id, Message.position, Message.parent_id, parent.id)
        .join(parent, is_parent, isouter=True)
        .where(
            Message.user_id == user_id,
            Message.conversation_id == conversation_id,
            Message.position > sa.bindparam("position"),
        )
        .order_by(Message.position)
        .limit(BATCH_ROWS)
    )
    count = _delete(user_id, {message_id})
    while rows := db.session.execute(later, {"position": position}).all():
        gone: set[str] = set()
        for child_id, _, parent_id, found_parent_id in rows:
            if parent_id is not None and (found_parent_id is None or parent_id in gone):
                gone.add(child_id)
        count += _delete(user_id, gone)
        position = rows[-1].position
    return count


def _delete(user_id: str, message_ids: set[str]) -> int:
    if message_ids:
        db.session.execute(sa.delete(Message).where(Message.user_id == user_id, Message.id.in_(message_ids)))
    return len(message_ids)
