"""Throttling of logins and registrations, exact across all workers because the counters are in the database.

An attempt is counted before the password is checked, in one statement that commits by itself, so that concurrent
attempts can't slip through and a failed request still counts. `limits` parses the settings.
"""

import ipaddress
import math
import time
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from flask import current_app
from limits import RateLimitItem, parse
from sqlalchemy.dialects import postgresql, sqlite

from ..database.columns import UTCDateTime, seconds_of
from ..database.statements import Statement
from ..errors import TooManyRequests
from ..keyring import keyed_hash
from .models import ThrottleCounter as Counter


def _increment(on_postgres: bool) -> sa.Executable:
    """Add one to the counter, or restart it if its window has ended."""
    insert: Any = (postgresql if on_postgres else sqlite).insert(Counter)
    ended = Counter.expires_at <= sa.bindparam("moment", type_=UTCDateTime)
    row = insert.values(key=sa.bindparam("key"), count=1, expires_at=sa.bindparam("expires_at"))
    return row.on_conflict_do_update(
        index_elements=[Counter.key],
        set_={
            "count": sa.case((ended, 1), else_=Counter.count + 1),
            "expires_at": sa.case((ended, row.excluded.expires_at), else_=Counter.expires_at),
        },
    ).returning(Counter.count, Counter.expires_at)


_COUNT = Statement(_increment)
# also deletes counters whose windows have ended, so the table stays small by itself
_RESET = Statement(
    sa.delete(Counter).where(
        sa.or_(
            Counter.key == sa.bindparam("counter"),
            Counter.expires_at <= sa.bindparam("moment", type_=UTCDateTime),
        )
    )
)


def count_attempt_and_commit(setting: str, subject: str) -> None:
    """Count an attempt by this subject (an account, an address) against the limit in a setting.

    An attempt counts whatever the outcome of its request, so it is a transaction of its own. Raises
    TooManyRequests, with the seconds until the window ends, if there were too many.
    """
    limit, moment = _limit(current_app.config[setting]), time.time()
    count, ends_at = _COUNT.first_and_commit(
        key=_key(setting, subject), moment=_utc(moment), expires_at=_utc(moment + limit.get_expiry())
    ) or (0, _utc(moment))
    if count > limit.amount:
        wait_s = max(1, math.ceil(seconds_of(ends_at) - moment))
        raise TooManyRequests(
            f"Too many attempts; wait {wait_s} seconds before the next one.", retry_after_s=wait_s
        )


def reset_attempts_and_commit(setting: str, subject: str) -> None:
    """Reset the counter: the subject has authenticated."""
    _RESET.first_and_commit(counter=_key(setting, subject), moment=_utc(time.time()))


def network_of(address: str) -> str:
    """What counts as one address: in IPv6 a subscriber's whole /64 network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket has none
        return address
    if isinstance(parsed, ipaddress.IPv4Address) or parsed.ipv4_mapped:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))


@cache
def _limit(text: str) -> RateLimitItem:
    return parse(text)


def _key(setting: str, subject: str) -> str:
    """A keyed hash: the table reveals no accounts or addresses."""
    return keyed_hash("throttle", f"{setting}\x1f{subject}".encode())


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
