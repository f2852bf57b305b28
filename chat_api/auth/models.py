"""The tables of accounts: logins, personal access tokens, invitations, revoked logins and throttle counters."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ..database.columns import Id, OwnedByUser, UTCDateTime
from ..database.session import Model


class Login(OwnedByUser, Model):
    """One login, from password to logout. Its row is deleted when it ends."""

    __tablename__ = "logins"

    # the one refresh token that has not been used yet
    refresh_token_id: Mapped[str] = mapped_column(Id)
    # those that were used in the last seconds, as JSON: a list of [id, when], in seconds since 1970
    used_refresh_tokens: Mapped[str | None] = mapped_column(sa.Text)
    # extended by each refresh, up to `ends_at`
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)
    ends_at: Mapped[datetime] = mapped_column(UTCDateTime)


class PersonalAccessToken(OwnedByUser, Model):
    """A token for scripts. Only its hash is stored; 256 random bits need no slow hash."""

    __tablename__ = "personal_access_tokens"

    name: Mapped[str] = mapped_column(sa.String(100))
    secret_hash: Mapped[str] = mapped_column(sa.String(64))
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)


class Invitation(OwnedByUser, Model):
    """Lets one person register. It belongs to the admin who made it; only a hash of the code is stored."""

    __tablename__ = "invitations"

    secret_hash: Mapped[str] = mapped_column(sa.String(64))
    # lower case; the only address that may register with it, None: any
    email: Mapped[str | None] = mapped_column(sa.String(254))
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class RevokedLogin(Model):
    """A login whose access tokens are refused until the last of them has expired.

    It names no user, so that it outlives a deleted account.
    """

    __tablename__ = "revoked_logins"
    __table_args__ = (sa.Index(None, "revoked_at"),)

    login_id: Mapped[str] = mapped_column(Id, primary_key=True)
    revoked_at: Mapped[datetime] = mapped_column(UTCDateTime)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)


class ThrottleCounter(Model):
    """The number of attempts in the window that ends at `expires_at`. The key is a keyed hash."""

    __tablename__ = "throttle_counters"
    __table_args__ = (sa.Index(None, "expires_at"),)

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    count: Mapped[int] = mapped_column(sa.Integer)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)
