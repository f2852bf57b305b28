"""Retention: finds and deletes conversations that were not used for long, in batches."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ..completions.models import Completion
from ..conversations.models import IS_VISIBLE, Conversation
from ..database.columns import Id, UTCDateTime
from ..database.session import db
from ..messages import deletion

CONVERSATIONS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Expired:
    """A conversation that retention deletes."""

    user_id: str
    id: str
    message_count: int
    updated_at: datetime


def list_expired(*, user_id: str, used_before: datetime, after: Expired | None = None) -> list[Expired]:
    """A batch of the user's conversations due for deletion, oldest first, after a cursor."""
    return _found(user_id, used_before, after, lock=False)


def hide_expired(*, user_id: str, used_before: datetime) -> list[Expired]:
    """Begin to delete a batch of the user's conversations due for deletion, and return it; empty when none is left.

    Nobody sees them any more when the caller has committed, who deletes them then. A conversation that is used or
    pinned at the same time is left out.
    """
    found = _found(user_id, used_before, None, lock=True)
    busy = set(
        db.session.scalars(_with_reply_in_progress(user_id))
    )  # a reply may have begun while this waited for the lock
    hidden = [conversation for conversation in found if conversation.id not in busy]
    for conversation in hidden:
        deletion.hide_conversation(user_id=user_id, conversation_id=conversation.id)
    return hidden


def _found(user_id: str, used_before: datetime, after: Expired | None, *, lock: bool) -> list[Expired]:
    cursor = sa.tuple_(Conversation.updated_at, Conversation.id)
    columns = (Conversation.user_id, Conversation.id, Conversation.message_count, Conversation.updated_at)
    known = after and sa.tuple_(sa.literal(after.updated_at, UTCDateTime()), sa.literal(after.id, Id()))
    found: list[Any] = []
    for archived in (False, True):  # the index separates them
        query = sa.select(*columns).where(
            Conversation.user_id == user_id,
            IS_VISIBLE,
            Conversation.archived.is_(archived),
            Conversation.updated_at < used_before,
            sa.not_(Conversation.pinned),
            Conversation.id.not_in(_with_reply_in_progress(user_id)),
        )
        if known is not None:
            query = query.where(cursor > known)
        query = query.order_by(Conversation.updated_at, Conversation.id).limit(CONVERSATIONS_AT_ONCE)
        if lock:  # waits for requests that are using one, then checks again
            query = query.with_for_update()
        found += db.session.execute(query)
    found.sort(key=lambda row: (row.updated_at, row.id))
    return [Expired(*row) for row in found[:CONVERSATIONS_AT_ONCE]]


def _with_reply_in_progress(user_id: str) -> sa.Select[Any]:
    """The user's conversations that are in use without a new message so far: a reply to an old one is being written."""
    running = Completion.status == sa.literal_column("'in_progress'")  # as the partial index has it
    return sa.select(Completion.conversation_id).where(Completion.user_id == user_id, running)
