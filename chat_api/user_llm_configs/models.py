"""The table of users' provider keys, encrypted."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ..database.columns import Id, OwnedByUser, UTCDateTime, now
from ..database.session import Model

NO_KEY_HINT = " "  # no key has a space


class UserLLMConfig(OwnedByUser, Model):
    """One user's key for one provider."""

    __tablename__ = "user_llm_configs"
    __table_args__ = (sa.UniqueConstraint("user_id", "provider_id"),)

    provider_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("llm_providers.id", ondelete="CASCADE"))
    # encrypted for this user and provider, see keyring
    encrypted_api_key: Mapped[str] = mapped_column("sealed_api_key", sa.Text)
    # the last characters of the key, by which its owner recognises it, or NO_KEY_HINT
    api_key_hint: Mapped[str] = mapped_column(sa.String(4))
    # used when a completion names no model
    default_model: Mapped[str | None] = mapped_column(sa.String(255))
    # in tokens; overrides the provider's
    context_window: Mapped[int | None] = mapped_column(sa.Integer)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
