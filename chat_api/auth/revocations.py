"""Revoked logins, known to every worker within half a second.

An access token is checked without a database query, so each worker keeps a copy of the table of revoked logins and
refreshes it when it is older than half a second: one small statement for all requests in that time. An older copy is
never used; if it can't be refreshed, requests fail with 503.
"""

import threading
import time
from collections.abc import Container
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from flask import Flask, current_app

from ..database.columns import UTCDateTime, now, seconds_of
from ..database.statements import Statement
from ..errors import Unavailable
from .models import RevokedLogin

EXTENSION = "chat_api.revocations"
MAX_AGE_S = 0.5
# rows of the last minute are read again: another machine's clock may be slow, or its commit late
OVERLAP = timedelta(seconds=60)

_REVOKED_SINCE = Statement(
    sa.select(sa.cast(RevokedLogin.login_id, sa.String(36)), RevokedLogin.expires_at).where(
        RevokedLogin.revoked_at > sa.bindparam("since", type_=UTCDateTime)
    )
)


class Revocations:
    """A worker's copy of the revoked logins."""

    def __init__(self) -> None:
        self._ended: dict[str, float] = {}
        self._read_at = float("-inf")
        self._since = datetime.fromtimestamp(0, UTC)
        self._lock = threading.Lock()
        self._changes = 0  # made by this worker

    def refreshed(self) -> Container[str]:
        """The ids of revoked logins, as of at most half a second ago. Raises Unavailable."""
        if time.monotonic() - self._read_at > MAX_AGE_S:
            # bounded: with a hanging database all threads would wait here, one after the other
            if not self._lock.acquire(timeout=current_app.config["DATABASE_WAIT_S"]):
                raise Unavailable()
            try:
                if time.monotonic() - self._read_at > MAX_AGE_S:
                    self._read()
            finally:
                self._lock.release()
        return self._ended

    def mark_changed(self) -> None:
        """Have the next request read the table, and one that is reading it now not count."""
        self._changes += 1
        self._read_at = float("-inf")

    def _read(self) -> None:
        started, started_at, changes = time.monotonic(), now(), self._changes
        for login_id, expires_at in _REVOKED_SINCE.all(since=self._since):
            self._ended[login_id] = seconds_of(expires_at)
        self._since = started_at - OVERLAP
        if changes == self._changes:
            self._read_at = started
        self._forget_expired(started_at.timestamp())

    def _forget_expired(self, moment: float) -> None:
        if any(expiry < moment for expiry in self._ended.values()):
            self._ended = {login: expiry for login, expiry in self._ended.items() if expiry >= moment}


def init_app(app: Flask) -> None:
    """Give the application its copy, which is read on first use."""
    app.extensions[EXTENSION] = Revocations()


def mark_changed() -> None:
    """After a commit that revokes logins: this worker refuses their tokens from now on, not half a second later."""
    current_app.extensions[EXTENSION].mark_changed()


def is_revoked(login_id: str, app: Flask | None = None) -> bool:
    """Whether this login was revoked, as of at most half a second ago. Raises Unavailable."""
    revocations: Revocations = (app or current_app).extensions[EXTENSION]
    return login_id in revocations.refreshed()
