"""The table of conversations."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ..columns import OwnedByUser, UTCDateTime, now
from ..extensions import Model


class Conversation(OwnedByUser, Model):
    """A conversation of one user. Its row numbers its messages."""

    __tablename__ = "conversations"

    title: Mapped[str] = mapped_column(sa.String(255))
    # how many messages there are, and so the position of the newest one
    message_count: Mapped[int] = mapped_column(sa.Integer, default=0)
    # moved by each message
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
