"""Adding, reading and deleting attachments."""

from typing import Any

import sqlalchemy as sa

from ..database.parameters import USER_ID
from ..database.session import db
from ..database.statements import Statement
from ..errors import NotFound
from ..messages.conditions import IN_VISIBLE
from ..messages.models import Message
from ..users.quotas import Quota, Quotas
from ..web.pagination import Listing, Page
from .models import Attachment

_ITS_MESSAGE: sa.Select[Any] = sa.select(sa.literal_column("1")).where(
    Message.user_id == Attachment.user_id, Message.id == Attachment.message_id, IN_VISIBLE
)
_OF_VISIBLE = sa.exists(_ITS_MESSAGE.correlate(Attachment))

_USE = Statement(sa.select(sa.func.sum(sa.literal_column("1"))).where(Attachment.user_id == USER_ID))
QUOTAS = Quotas(_USE, Quota("attachments", "MAX_ATTACHMENTS_PER_USER", "attachments"))


def create_attachment(*, user_id: str, message_id: str, file_type: str, file_path: str) -> Attachment:
    """Attach a label to the user's message; the message's row numbers it. Raises NotFound."""
    QUOTAS.require_room(1, user_id=user_id)
    newest = sa.select(sa.func.max(Attachment.position)).where(
        Attachment.user_id == user_id, Attachment.message_id == message_id
    )
    # a count that is less than the newest position is wrong, and ends with this
    count = sa.case(
        (Message.attachment_count >= sa.func.coalesce(newest.scalar_subquery(), 0), Message.attachment_count),
        else_=newest.scalar_subquery(),
    )
    position = db.session.scalar(
        sa.update(Message)
        .where(Message.user_id == user_id, Message.id == message_id, IN_VISIBLE)
        .values(attachment_count=count + 1)
        .returning(Message.attachment_count)
    )
    if position is None:
        raise NotFound("message")
    attachment = Attachment(
        user_id=user_id, message_id=message_id, position=position, file_type=file_type, file_path=file_path
    )
    db.session.add(attachment)
    db.session.flush()
    return attachment


def list_attachments(*, user_id: str, message_id: str, page: Page) -> Listing[Attachment]:
    """A page of a message's attachments, oldest first. Raises NotFound where the user has no such message."""
    query = sa.select(Attachment).where(
        Attachment.user_id == user_id, Attachment.message_id == message_id, _OF_VISIBLE
    )
    if page.after is not None:
        query = query.where(Attachment.position > _cursor(page.after))
    if page.before is not None:
        query = query.where(Attachment.position < _cursor(page.before))
    order = Attachment.position.desc() if page.backwards else Attachment.position
    attachments = list(db.session.scalars(query.order_by(order).limit(page.limit + 1)))
    if not attachments:
        _require_message(user_id=user_id, message_id=message_id)
    return page.listing(attachments)


def get_attachment(*, user_id: str, attachment_id: str, lock: bool = False) -> Attachment:
    """One of the user's attachments. With `lock` nobody else can delete it until the transaction ends.

    Raises NotFound.
    """
    own = (Attachment.user_id == user_id, Attachment.id == attachment_id, _OF_VISIBLE)
    query = sa.select(Attachment).where(*own)
    attachment = db.session.scalar(query.with_for_update() if lock else query)
    if attachment is None:
        raise NotFound("attachment")
    return attachment


def delete_attachment(*, attachment: Attachment) -> None:
    """Delete a locked attachment. Its position is not given out again."""
    db.session.delete(attachment)
    db.session.flush()


def _cursor(position: int) -> sa.ColumnElement[int]:
    """A cursor, which may be larger than what the column can hold."""
    return sa.literal(position, sa.BigInteger())


def _require_message(*, user_id: str, message_id: str) -> None:
    own = sa.select(Message.id).where(Message.user_id == user_id, Message.id == message_id, IN_VISIBLE)
    if db.session.scalar(own) is None:
        raise NotFound("message")
