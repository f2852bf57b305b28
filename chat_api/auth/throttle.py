"""Throttling of logins and registrations, exact across all workers because the counters are in the database.

An attempt is counted before the password is checked, in one statement that commits by itself, so that concurrent
attempts can't slip through and a failed request still counts.
"""

import math
import time
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.dialects import postgresql, sqlite

from config import RateLimit

from ..database.columns import UTCDateTime, seconds_of
from ..database.statements import Statement
from ..errors import TooManyRequests
from ..keyring import keyed_hash
from .models import ThrottleCounter as Counter

KNOWN_NETWORK_S = 30 * 86_400  # for so long after a login its network counts as the account's own


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
# by the key alone, which is on one node; counters whose windows have ended are deleted by `flask purge`
_RESET = Statement(sa.delete(Counter).where(Counter.key == sa.bindparam("counter")))
_EXPIRY = Statement(
    sa.select(Counter.expires_at).where(
        Counter.key == sa.bindparam("key"), Counter.expires_at > sa.bindparam("moment", type_=UTCDateTime)
    )
)


def _remember(on_postgres: bool) -> sa.Executable:
    insert: Any = (postgresql if on_postgres else sqlite).insert(Counter)
    row = insert.values(key=sa.bindparam("key"), count=0, expires_at=sa.bindparam("expires_at"))
    return row.on_conflict_do_update(
        index_elements=[Counter.key], set_={"expires_at": row.excluded.expires_at}
    )


_REMEMBER = Statement(_remember)


def count_password_attempt_and_commit(*, account: str, network: str) -> None:
    """Count an attempt at an account's password. Raises TooManyRequests.

    The limit is one for each account and network, so that a stranger elsewhere can't lock somebody out. One for all
    networks together bounds an attack from many; networks that the account has logged in from do not count there,
    so that such an attack doesn't lock its owner out either.
    """
    count_attempt_and_commit("LOGIN_LIMIT_PER_ACCOUNT", _pair(account, network))
    if _known_for_s(account, network) <= 0:
        count_attempt_and_commit("LOGIN_LIMIT_ALL_NETWORKS", account)


def note_right_password_and_commit(*, account: str, network: str) -> None:
    """Reset the account's counter for this network, and remember the network as the account's own."""
    reset_attempts_and_commit("LOGIN_LIMIT_PER_ACCOUNT", _pair(account, network))
    if _known_for_s(account, network) < KNOWN_NETWORK_S / 2:
        expires_at = _utc(time.time() + KNOWN_NETWORK_S)
        _REMEMBER.first_and_commit(key=_known_key(account, network), expires_at=expires_at)


def _known_for_s(account: str, network: str) -> float:
    """For how much longer the network counts as the account's own; 0 if it does not."""
    moment = time.time()
    row = _EXPIRY.first(key=_known_key(account, network), moment=_utc(moment))
    return seconds_of(row[0]) - moment if row else 0


def _known_key(account: str, network: str) -> str:
    return _key("known network", _pair(account, network))


def _pair(account: str, network: str) -> str:
    return f"{account}\x1f{network}"


def count_attempt_and_commit(setting: str, subject: str) -> None:
    """Count an attempt by this subject (an account, an address) against the limit in a setting.

    An attempt counts whatever the outcome of its request, so it is a transaction of its own. Raises
    TooManyRequests, with the seconds until the window ends, if there were too many.
    """
    limit, moment = RateLimit.parse(current_app.config[setting]), time.time()
    count, ends_at = _COUNT.first_and_commit(
        key=_key(setting, subject), moment=_utc(moment), expires_at=_utc(moment + limit.window_s)
    ) or (0, _utc(moment))
    if count > limit.amount:
        wait_s = max(1, math.ceil(seconds_of(ends_at) - moment))
        raise TooManyRequests(
            f"Too many attempts; wait {wait_s} seconds before the next one.", retry_after_s=wait_s
        )


def reset_attempts_and_commit(setting: str, subject: str) -> None:
    """Reset the counter: the subject has authenticated."""
    _RESET.first_and_commit(counter=_key(setting, subject))


def _key(setting: str, subject: str) -> str:
    """A keyed hash: the table reveals no accounts or addresses."""
    return keyed_hash("throttle", f"{setting}\x1f{subject}".encode())


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
