"""Locking a key, recognising the same request, storing and finding its response."""

import hashlib
import hmac
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa

from ..database.columns import now
from ..database.dialect import is_postgres
from ..database.session import db
from ..errors import KeyReused, ResponseUnreadable, StillRunning
from ..keyring import CannotDecrypt, keyed_hash, keyring
from ..users.quotas import Quota, Quotas, rows_of
from .models import IdempotencyKey

RETENTION = timedelta(hours=24)
QUOTAS = Quotas(
    rows_of(IdempotencyKey.user_id),
    Quota(
        "stored_responses",
        "MAX_STORED_RESPONSES_PER_USER",
        "requests with an Idempotency-Key within 24 hours",
        "send the request without one, wait",
    ),
)

_running: set[str] = set()
_running_lock = threading.Lock()


@dataclass(frozen=True)
class StoredResponse:
    """The response to the first request."""

    status: int
    body: bytes
    location: str | None


@dataclass(frozen=True)
class Claim:
    """What a request with an Idempotency-Key claims: the key, for one sender, and its content."""

    scope: str  # the id of the acting user, or the address of somebody who registers
    key_id: str
    own_key_id: str  # where another sender has stored a response under `key_id`
    sender: str  # of whom and with which kind of token
    role: str
    fingerprint: str

    @property
    def sender_and_role(self) -> str:
        """As it is stored."""
        return f"{self.sender} {self.role}"


@contextmanager
def lock_key(*, lock_id: str) -> Iterator[None]:
    """Hold a key until the transaction of `db.session` ends. Raises StillRunning if another request holds it.

    Postgres: an advisory lock of the transaction, which all workers see. SQLite has one writer at a time, so a
    second request in another process waits for the first to end and then finds its response; within this
    process it is refused at once.
    """
    if is_postgres(db.engine):
        number = int.from_bytes(bytes.fromhex(lock_id[:16]), signed=True)
        if not db.session.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(number))):
            raise StillRunning()
        yield
        return
    with _running_lock:
        if lock_id in _running:
            raise StillRunning()
        _running.add(lock_id)
    try:
        yield
    finally:
        with _running_lock:
            _running.discard(lock_id)


def list_responses(*, user_id: str, claim: Claim) -> list[IdempotencyKey]:
    """The responses stored for a key, of whichever senders."""
    query = sa.select(IdempotencyKey).where(
        IdempotencyKey.user_id == user_id,
        IdempotencyKey.id.in_([claim.key_id, claim.own_key_id]),
        IdempotencyKey.created_at > now() - RETENTION,
    )
    return list(db.session.scalars(query))


def first_response(*, stored: Sequence[IdempotencyKey], claim: Claim) -> StoredResponse | None:
    """The first response to this request, of those stored for its key, or None.

    Raises KeyReused if the key was used with another request, ResponseUnreadable if the response can't be decrypted.
    """
    row = next((row for row in stored if _is_same_sender(row, claim)), None)
    if row is None:
        return None
    is_same_role = row.sender is None or row.sender == claim.sender_and_role
    if not is_same_role or not hmac.compare_digest(row.fingerprint, claim.fingerprint):
        raise KeyReused()
    try:
        body = keyring().decrypt(row.answer, encryption_context=_encryption_context(row.user_id, row.id))
    except CannotDecrypt:
        raise ResponseUnreadable(row.location) from None
    return StoredResponse(row.status, body, row.location)


def store_response(*, user_id: str, claim: Claim, response: StoredResponse, is_key_taken: bool) -> None:
    """Store the response in the transaction of its effect, and delete the user's expired ones. Raises QuotaExceeded.

    `is_key_taken` says whether one is stored under the key's first id already, of another sender.
    """
    key_id = claim.own_key_id if is_key_taken else claim.key_id
    expired = sa.or_(IdempotencyKey.created_at <= now() - RETENTION, IdempotencyKey.id == key_id)
    db.session.execute(sa.delete(IdempotencyKey).where(IdempotencyKey.user_id == user_id, expired))
    QUOTAS.require_room(1, user_id=user_id)
    db.session.add(
        IdempotencyKey(
            user_id=user_id,
            id=key_id,
            fingerprint=claim.fingerprint,
            sender=claim.sender_and_role,
            status=response.status,
            location=response.location,
            answer=keyring().encrypt(response.body, encryption_context=_encryption_context(user_id, key_id)),
        )
    )
    db.session.flush()


def _is_same_sender(row: IdempotencyKey, claim: Claim) -> bool:
    return row.sender is None or row.sender.rpartition(" ")[0] == claim.sender


def key_id_of(*, route: str, key: str, sender: str | None = None) -> str:
    """The id of a key on a route: the same key on another route is a different one."""
    parts = (route, key) if sender is None else (route, sender, key)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def lock_id_of(*, scope: str, key_id: str) -> str:
    """The id to lock: a key of one user, or of one email address that is registering."""
    return hashlib.sha256(f"{scope}\x1f{key_id}".encode()).hexdigest()


def fingerprint_of(*, content: Any) -> str:
    """A keyed hash of the request's content; the order of names in its JSON does not matter."""
    return keyed_hash("idempotency", orjson.dumps(content, option=orjson.OPT_SORT_KEYS))


def _encryption_context(user_id: str, key_id: str) -> tuple[str, str, str]:
    return ("idempotency_keys", user_id, key_id)
