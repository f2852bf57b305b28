"""Making and finding conversations."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..columns import now
from ..errors import NotFound
from ..extensions import db
from ..statements import Statement
from .models import Conversation

_GET = Statement(
    sa.select(
        Conversation.title, Conversation.message_count, Conversation.created_at, Conversation.updated_at
    ).where(
        Conversation.user_id == sa.bindparam("user_id"), Conversation.id == sa.bindparam("conversation_id")
    )
)
_EXISTS = Statement(
    sa.select(sa.literal(1)).where(
        Conversation.user_id == sa.bindparam("user_id"), Conversation.id == sa.bindparam("conversation_id")
    )
)


def create_conversation(*, user_id: str, title: str) -> Conversation:
    """Begin a conversation. Raises NotFound where there is no such user."""
    moment = now()
    conversation = Conversation(user_id=user_id, title=title, created_at=moment, updated_at=moment)
    db.session.add(conversation)
    try:
        db.session.flush()
    except IntegrityError as error:
        raise NotFound("user") from error
    return conversation


def get_conversation(*, user_id: str, conversation_id: str) -> dict[str, Any]:
    """The conversation as plain values. Raises NotFound."""
    row = _GET.first(user_id=user_id, conversation_id=conversation_id)
    if row is None:
        raise NotFound("conversation")
    return {
        "id": conversation_id,
        "user_id": user_id,
        "title": row[0],
        "message_count": row[1],
        "created_at": row[2],
        "updated_at": row[3],
    }


def require_conversation(*, user_id: str, conversation_id: str) -> None:
    """Raise NotFound where the user has no such conversation."""
    if _EXISTS.first(user_id=user_id, conversation_id=conversation_id) is None:
        raise NotFound("conversation")
