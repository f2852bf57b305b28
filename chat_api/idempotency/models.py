"""The tables of stored responses to requests with an Idempotency-Key, and of what recent requests made without one."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ..database.columns import Id, UTCDateTime, now
from ..database.session import Model


class IdempotencyKey(Model):
    """A used key of a user and the first response, written in the transaction of the request's effect."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (sa.Index(None, "user_id", "created_at"),)

    user_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    # a hash of route and key, and of the sender where another one has used the key, too
    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    # a keyed hash of the request: a plain hash of a body with a password would allow guessing
    fingerprint: Mapped[str] = mapped_column(sa.String(64))
    # who got the response, with which kind of token and role; NULL where an older release has stored it
    sender: Mapped[str | None] = mapped_column(sa.String(100))
    status: Mapped[int] = mapped_column(sa.SmallInteger)
    location: Mapped[str | None] = mapped_column(sa.String(255))
    # the body without secrets, encrypted all the same: it is the user's content
    answer: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)


class RecentRequest(Model):
    """What a request made whose client counts its tries, for a few minutes; see `retries.py`."""

    __tablename__ = "recent_requests"
    __table_args__ = (sa.Index(None, "user_id", "digest"),)

    user_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    # a keyed hash of sender, path and body
    digest: Mapped[str] = mapped_column(sa.String(64))
    # the number of the try that has been given it last: 0 where that was the first
    tries: Mapped[int] = mapped_column(sa.Integer)
    # of what it made, with commas between them
    object_ids: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
