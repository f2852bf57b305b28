"""The table of users: small, and referenced by every owner column."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ..database.columns import Id, UTCDateTime, new_id, now
from ..database.session import Model

ROLES = ("user", "admin", "service")


class User(Model):
    """A local account (email and password) or a user of the identity provider (issuer and subject)."""

    __tablename__ = "users"
    __table_args__ = (
        sa.UniqueConstraint("email"),
        sa.UniqueConstraint("issuer", "subject"),
        sa.CheckConstraint("role IN ('user', 'admin', 'service')", name="role"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    # lower case; None for a user of the identity provider, whose address we have not verified
    email: Mapped[str | None] = mapped_column(sa.String(254))
    password_hash: Mapped[str | None] = mapped_column(sa.String(255))
    issuer: Mapped[str | None] = mapped_column(sa.String(255))
    subject: Mapped[str | None] = mapped_column(sa.String(255))
    role: Mapped[str] = mapped_column(sa.String(16), default="user")
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
