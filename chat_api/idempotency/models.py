"""The table of answers that may have to be given again."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ..database.columns import Id, UTCDateTime, now
from ..database.session import Model


class IdempotencyKey(Model):
    """One used key of a user and the first answer, written in the transaction of its effect."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (sa.Index(None, "user_id", "created_at"),)

    user_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    # a hash of route and key, so that its length does not depend on the client
    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    # keyed hash of the request: a plain one of a body with a password could be guessed at
    fingerprint: Mapped[str] = mapped_column(sa.String(64))
    status: Mapped[int] = mapped_column(sa.SmallInteger)
    location: Mapped[str | None] = mapped_column(sa.String(255))
    # encrypted: an answer may hold a token
    answer: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
