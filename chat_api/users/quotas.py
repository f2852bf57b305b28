"""How much a user may store. A limit is a setting; what is used is read now and then, and counted in between.

Reading what a user has stored is no part of a request that is in a hurry: it takes the longer the more that is, so each
worker remembers it and adds what passes through it, for REMEMBERED_S, or for REMEMBERED_FAR_OFF_S where less than half
of every limit is used. So a limit can be exceeded by what other workers store within that time, and by requests that
run at once; what was deleted elsewhere counts until then, but nobody is refused by a figure older than a second.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from flask import current_app

from ..database.parameters import USER_ID
from ..database.statements import Statement
from ..errors import QuotaExceeded

REMEMBERED_S = 30.0
REMEMBERED_FAR_OFF_S = 600.0
REFUSES_WITHIN_S = 1.0
MAX_REMEMBERED = 10_000  # users


class Quota(NamedTuple):
    """A limit of what one user may store."""

    name: str  # as in the error
    setting: str
    what: str  # in a sentence
    remedy: str = "delete some first"


@dataclass(slots=True)
class _Use:
    """What a user has stored, as far as this worker knows."""

    amounts: list[int]
    read_at: float


def rows_of(owner: Any) -> Statement:
    """The use of a quota of rows, by the column that names their owner."""
    return Statement(sa.select(sa.func.sum(sa.literal_column("1"))).where(owner == USER_ID))


class Quotas:
    """Limits whose use one statement reads: a row with a number for each, of the user `user_id`.

    With `remembers=False` it is read each time, for what is seldom stored and quickly counted.
    """

    def __init__(self, statement: Statement, *quotas: Quota, remembers: bool = True) -> None:
        self._statement, self.quotas, self._remembers = statement, quotas, remembers
        self._lock = threading.Lock()
        self._uses: dict[str, _Use] = {}
        self._reading: dict[str, threading.Lock] = {}  # of users whose use is being read

    def require_room(self, *amounts: int, user_id: str) -> None:
        """Count this much more of each. Raises QuotaExceeded where it is too much."""
        if not any(amounts):
            return
        use = self._remembered(user_id)
        if self._find_exceeded(use, amounts) is not None:
            if time.monotonic() - use.read_at > REFUSES_WITHIN_S:
                use = self._read(user_id)
            if (exceeded := self._find_exceeded(use, amounts)) is not None:
                raise _exceeded(*exceeded)
        if self._remembers:
            for index, amount in enumerate(amounts):
                # of two threads at once one may be lost: the next reading finds it
                use.amounts[index] += amount

    def forget(self, *, user_id: str) -> None:
        """Read what the user has stored before it is asked for again: something that was counted is not stored."""
        with self._lock:
            self._uses.pop(user_id, None)

    def read_use(self, *, user_id: str) -> list[tuple[Quota, int]]:
        """What the user has stored, by a figure that is not older than one that somebody is refused by."""
        use = self._uses.get(user_id)
        if use is None or time.monotonic() - use.read_at > REFUSES_WITHIN_S:
            use = self._read(user_id)
        return list(zip(self.quotas, use.amounts, strict=True))

    def _remembered(self, user_id: str) -> _Use:
        """What the user has stored, as it was read a while ago. Of several requests at once one reads it anew."""
        use = self._uses.get(user_id)
        if use is not None:
            age_s = time.monotonic() - use.read_at
            if age_s <= REMEMBERED_S or (age_s <= REMEMBERED_FAR_OFF_S and self._is_far_off(use)):
                return use
        if not self._remembers:
            return self._read(user_id)
        with self._lock:
            reads = self._reading.setdefault(user_id, threading.Lock())
        if not reads.acquire(blocking=use is None):
            return use  # type: ignore[return-value]  # the one of before, while another request reads
        try:
            newer = self._uses.get(user_id)
            return newer if newer is not None and newer is not use else self._read(user_id)
        finally:
            self._reading.pop(user_id, None)
            reads.release()

    def _is_far_off(self, use: _Use) -> bool:
        """Whether less than half of every limit is used."""
        config = current_app.config
        used = zip(self.quotas, use.amounts, strict=True)
        return all(2 * amount < config[quota.setting] for quota, amount in used)

    def _read(self, user_id: str) -> _Use:
        row = self._statement.first(user_id=user_id)
        use = _Use([int(amount or 0) for amount in row or [0] * len(self.quotas)], time.monotonic())
        if self._remembers:
            with self._lock:
                self._uses.pop(user_id, None)
                while len(self._uses) >= MAX_REMEMBERED:  # the one that was read first
                    del self._uses[next(iter(self._uses))]
                self._uses[user_id] = use
        return use

    def _find_exceeded(self, use: _Use, amounts: Sequence[int]) -> tuple[Quota, int] | None:
        """The first limit that this much more would exceed, and how much that is."""
        config = current_app.config
        for quota, used, amount in zip(self.quotas, use.amounts, amounts, strict=True):
            if amount and used + amount > (limit := config[quota.setting]):
                return quota, limit
        return None


def limit_of(quota: Quota) -> int:
    """How much one user may store."""
    limit: int = current_app.config[quota.setting]
    return limit


def _exceeded(quota: Quota, limit: int) -> QuotaExceeded:
    detail = (
        f"Every user may have at most {limit} {quota.what}; {quota.remedy}, or ask the operator for a higher "
        f"{quota.setting}."
    )
    return QuotaExceeded(detail, quota=quota.name, limit=limit)
