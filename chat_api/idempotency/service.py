"""Claiming a key, recognising the same request, keeping and finding its answer."""

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa

from ..database.columns import now
from ..database.dialect import is_postgres
from ..database.session import db
from ..errors import KeyReused, StillRunning
from ..keyring import keyed_hash, keyring
from .models import IdempotencyKey

KEPT_FOR = timedelta(hours=24)

_running: set[str] = set()
_running_lock = threading.Lock()


@dataclass(frozen=True)
class Answer:
    """What the first request was answered."""

    status: int
    body: bytes
    location: str | None


@contextmanager
def claim(claim_id: str) -> Iterator[None]:
    """Hold a key until the transaction of `db.session` ends. Raises StillRunning where another request holds it.

    Postgres: an advisory lock of the transaction, seen by all workers. SQLite has one writer at a time, so a
    second request in another process waits for the first one's end and then finds its answer; within this
    process it is told at once.
    """
    if is_postgres(db.engine):
        number = int.from_bytes(bytes.fromhex(claim_id[:16]), signed=True)
        if not db.session.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(number))):
            raise StillRunning()
        yield
        return
    with _running_lock:
        if claim_id in _running:
            raise StillRunning()
        _running.add(claim_id)
    try:
        yield
    finally:
        with _running_lock:
            _running.discard(claim_id)


def find_answer(*, user_id: str, key_id: str, fingerprint: str) -> Answer | None:
    """The first answer to this request. Raises KeyReused where the key was used for another one."""
    row = db.session.scalar(
        sa.select(IdempotencyKey).where(
            IdempotencyKey.user_id == user_id,
            IdempotencyKey.id == key_id,
            IdempotencyKey.created_at > now() - KEPT_FOR,
        )
    )
    if row is None:
        return None
    if not hmac.compare_digest(row.fingerprint, fingerprint):
        raise KeyReused()
    return Answer(row.status, keyring().decrypt(row.answer, place=place_of(user_id, key_id)), row.location)


def keep_answer(*, user_id: str, key_id: str, fingerprint: str, answer: Answer) -> None:
    """Keep the answer with its effect, and drop the user's expired ones."""
    expired = sa.or_(IdempotencyKey.created_at <= now() - KEPT_FOR, IdempotencyKey.id == key_id)
    db.session.execute(sa.delete(IdempotencyKey).where(IdempotencyKey.user_id == user_id, expired))
    db.session.add(
        IdempotencyKey(
            user_id=user_id,
            id=key_id,
            fingerprint=fingerprint,
            status=answer.status,
            location=answer.location,
            answer=keyring().encrypt(answer.body, place=place_of(user_id, key_id)),
        )
    )
    db.session.flush()


def key_id_of(*, route: str, key: str) -> str:
    """The id of a key on a route: the same key on another route is another one."""
    return hashlib.sha256(f"{route}\x1f{key}".encode()).hexdigest()


def claim_id_of(*, scope: str, key_id: str) -> str:
    """What is claimed: the key of one user, or of one address that is registering."""
    return hashlib.sha256(f"{scope}\x1f{key_id}".encode()).hexdigest()


def fingerprint_of(request_content: Any) -> str:
    """A keyed hash of what the request asks for; the order of names in its JSON does not count."""
    return keyed_hash("idempotency", orjson.dumps(request_content, option=orjson.OPT_SORT_KEYS))


def place_of(user_id: str, key_id: str) -> tuple[str, str, str]:
    """Where an answer is sealed for."""
    return ("idempotency_keys", user_id, key_id)
