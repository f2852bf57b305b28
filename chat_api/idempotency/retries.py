"""Requests that a client's SDK sends again by itself, recognised without an Idempotency-Key.

OpenAI's SDKs repeat a request whose answer was an error, or never came, with the same body and no key, and count the
tries in a header: 0, 1, 2. What a request has made is noted in the transaction that makes it, for fifteen minutes; a
later try with the same body is given that, and makes nothing a second time. A first try never is: equal questions that
are asked twice are two.

A creating view uses it like this, whatever it creates:

    attempt = attempt_of_request()
    with json_object(is_small=False, note=attempt.note_body) as body:
        …
    if (ids := attempt.find_earlier_and_commit()) is not None:
        answer with what has these ids; where it is gone, go on as if there were none
    created = …                     # in a transaction
    attempt.remember(created.id)    # in the same one, before its commit

For a completion it is enough to pass `attempt` with the `Turn`, and to start it through `openai_api.retrying`. A
client that counts nothing costs nothing: all of it does nothing then, nor with an Idempotency-Key, which says more.
"""

import hashlib
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from flask import Flask

from ..database.columns import UTCDateTime, new_id, now
from ..database.parameters import USER_ID, given, named_new, new
from ..database.session import db
from ..database.statements import Statement
from ..errors import Unavailable
from ..files import remover
from ..keyring import keyed_hash
from ..web.request_body import end_reads
from .models import RecentRequest

KEPT = timedelta(minutes=15)
BATCH = 500

_DIGEST = given("digest", sa.String())
_COUNT = given("count", sa.Integer())
_SAME = (RecentRequest.user_id == USER_ID, RecentRequest.digest == _DIGEST)
_INSERT = Statement(
    sa.insert(RecentRequest).values({column.key: new(column) for column in RecentRequest.__table__.columns})
)
_newest = (
    sa.select(RecentRequest.id)
    .where(*_SAME, RecentRequest.tries < _COUNT, RecentRequest.created_at > given("since", UTCDateTime()))
    .order_by(RecentRequest.id.desc())
    .limit(1)
)
# each of several equal requests is taken by one retry: whoever takes it says by which try
_TAKE = Statement(
    sa.update(RecentRequest)
    .where(
        RecentRequest.user_id == USER_ID,
        RecentRequest.id == _newest.scalar_subquery(),
        RecentRequest.tries < _COUNT,
    )
    .values(tries=_COUNT)
    .returning(RecentRequest.object_ids)
)
_FOLLOWED = Statement(
    sa.select(RecentRequest.id).where(
        *_SAME, RecentRequest.tries > _COUNT, RecentRequest.object_ids == given("object_ids", sa.Text())
    )
)


class Attempt:
    """One of the tries of a request."""

    def __init__(self, *, user_id: str, count: int | None, scope: str = "") -> None:
        """`count` says which one, 0 for the first; None where the client does not count. `scope` is what tells the
        request from others, besides its body."""
        self._user_id, self._count, self._scope = user_id, count, scope
        self._digest = ""

    @property
    def counts(self) -> bool:
        """Whether the client counts its tries, and so may send the request again."""
        return self._count is not None

    def note_body(self, raw: bytes) -> None:
        """Take the body as it was sent, by which later tries are recognised."""
        if self._count is not None:
            scope = f"{self._scope}\x1f{hashlib.sha256(raw).hexdigest()}"  # the body may have megabytes
            self._digest = keyed_hash("retries", scope.encode())

    def find_earlier_and_commit(self) -> list[str] | None:
        """The ids of what an earlier try has made; None where there was none that made something."""
        if not self._count:
            return None
        end_reads()
        known = {"user_id": self._user_id, "digest": self._digest, "count": self._count}
        for _ in range(self._count + 1):  # of two that take the same at once, one has to look again
            row = _TAKE.first_and_commit(**known, since=now() - KEPT)
            if row is not None:
                return str(row[0]).split(",")
        return None

    def remember(self, *ids: str) -> None:
        """Note what this try makes, in the transaction that makes it."""
        if self._count is not None:
            row = {"user_id": self._user_id, "id": new_id(), "digest": self._digest, "tries": self._count,
                   "object_ids": ",".join(ids), "created_at": now()}  # fmt: skip
            _INSERT.all(**named_new(row))

    def is_followed(self, *ids: str) -> bool:
        """Whether a later try has been given what has these ids; False while the database is away."""
        if self._count is None:
            return False
        known: dict[str, Any] = {"user_id": self._user_id, "digest": self._digest, "count": self._count}
        try:
            return _FOLLOWED.first(**known, object_ids=",".join(ids)) is not None
        except Unavailable:
            return False


def delete_expired_and_commit() -> int:
    """Delete a batch of rows that are too old for retries; how many."""
    query = sa.select(RecentRequest.user_id, RecentRequest.id).where(RecentRequest.created_at <= now() - KEPT)
    rows = db.session.execute(query.limit(BATCH)).all()
    for user_id, id_ in rows:
        own = (RecentRequest.user_id == user_id, RecentRequest.id == id_)
        db.session.execute(sa.delete(RecentRequest).where(*own))
    db.session.commit()
    return len(rows)


def init_app(app: Flask) -> None:
    """Have the rows deleted when they are too old, together with all else that expires."""
    remover.add(app, delete_expired_and_commit)
