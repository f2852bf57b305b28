"""How long a worker is believed to live without a word: its lease on the replies that it writes."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from ..database.columns import UTCDateTime, now, seconds_of
from ..database.parameters import given
from .models import Completion

LEASE = timedelta(seconds=15)  # a worker that did not renew for so long is taken for dead
CLOCKS_DIFFER = timedelta(minutes=1)  # at most so far, between the machines of a service
_LATEST = LEASE + CLOCKS_DIFFER

# parameters: those of `moments`
IS_OVER = sa.or_(
    Completion.lease_expires_at < given("moment", UTCDateTime()),
    Completion.lease_expires_at > given("latest", UTCDateTime()),
)


def next_end() -> datetime:
    """Until when a lease lasts that is given or renewed now."""
    return now() + LEASE


def is_over(lease_expires_at: datetime | str) -> bool:
    """Whether a lease has ended, or can't have been given by a clock that is right.

    A clock that ran ahead and was set back leaves leases that would last until it has caught up.
    """
    left_s = seconds_of(lease_expires_at) - now().timestamp()
    return not 0 <= left_s <= _LATEST.total_seconds()


def moments() -> dict[str, datetime]:
    """The parameters of IS_OVER."""
    moment = now()
    return {"moment": moment, "latest": moment + _LATEST}
