"""Maintenance of all users' data: rotating master keys, deleting expired rows and old conversations, indexing again.

These are the only functions that iterate over all users. They do it user by user, so that every statement still
names one, and commit after each batch, so that the service can keep running.
"""

import time
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa

from ..auth.models import Login, PersonalAccessToken, RevokedLogin, ThrottleCounter
from ..database.bulk import read_in_batches, rows_at_once, with_rests
from ..database.columns import now
from ..database.session import db
from ..files import removal
from ..files.models import UsedLink
from ..idempotency.models import IdempotencyKey, RecentRequest
from ..idempotency.retries import KEPT
from ..idempotency.service import RETENTION
from ..keyring import CannotDecrypt, keyring
from ..llm_providers import secret_headers
from ..llm_providers.secret_headers import stored_headers
from ..messages import deletion
from ..search import backlog
from ..user_llm_configs.models import UserLLMConfig
from ..users import service as users
from ..users.models import User
from . import retention
from .erasure import erase_account
from .retention import Expired

BATCH = 500
LONGEST_IMPORT = timedelta(days=1)
WAIT_S = 0.5  # between two looks at whether another process has indexed everything
# every encrypted column of users' rows; the headers of providers are encrypted one by one
ENCRYPTED: tuple[tuple[Any, Any], ...] = (
    (UserLLMConfig, UserLLMConfig.encrypted_api_key),
    (IdempotencyKey, IdempotencyKey.answer),
)


def rotate_secrets() -> tuple[int, int, int]:
    """Re-encrypt every stored secret with the first master key; how many were rotated, current, undecryptable.

    A row that a request changes at the same time keeps the newer value: the update matches only the value it read.
    """
    counts = {"rotated": 0, "current": 0, "broken": 0}
    for user_id in _user_ids():
        for model, column in ENCRYPTED:
            _run(_rotate_some(model, column, user_id, counts))
    _run(_rotate_headers(counts))
    return counts["rotated"], counts["current"], counts["broken"]


def _rotate_some(model: Any, column: Any, user_id: str, counts: dict[str, int]) -> Iterator[None]:
    """Rotate the secrets of a user in steps of some rows, each to be committed."""
    for rows in read_in_batches([model.id], model.user_id == user_id, limit=rows_at_once(), also=[column]):
        for row_id, ciphertext in rows:
            counts[_rotate(model, column, user_id, row_id, ciphertext)] += 1
        yield


def _rotate_headers(counts: dict[str, int]) -> Iterator[None]:
    """The same with the headers of providers, in steps of some providers."""
    for rows in secret_headers.read_stored(limit=rows_at_once()):
        for provider_id, stored in rows:
            counts_of_row = secret_headers.rotate_stored(provider_id=provider_id, stored=stored)
            for outcome, count in counts_of_row.items():
                counts[outcome] += count
        yield


def count_secrets() -> Generator[tuple[int, int]]:
    """How many stored secrets there are and how many of them no master key opens, batch by batch.

    In the order of the primary key, over all users: there may be many users without a secret.
    """
    for model, column in ENCRYPTED:
        for rows in read_in_batches([model.user_id, model.id], limit=BATCH, also=[column]):
            yield len(rows), sum(not keyring().opens(ciphertext) for *_, ciphertext in rows)
    for providers in secret_headers.read_stored(limit=BATCH):
        ciphertexts = [each for _, stored in providers for each in stored_headers(stored).values()]
        yield len(ciphertexts), sum(not keyring().opens(ciphertext) for ciphertext in ciphertexts)


def _rotate(model: Any, column: Any, user_id: str, row_id: str, ciphertext: str) -> str:
    if keyring().is_current(ciphertext):
        return "current"
    try:
        fresh = keyring().rotate(ciphertext)
    except CannotDecrypt:
        return "broken"
    unchanged = (model.user_id == user_id, model.id == row_id, column == ciphertext)
    db.session.execute(sa.update(model).where(*unchanged).values({column.key: fresh}))
    return "rotated"


def purge_expired() -> int:
    """Delete expired rows; returns their number. Finishes what was interrupted, too."""
    moment = now()
    being_erased = users.list_being_erased()
    db.session.rollback()
    for user_id in being_erased:
        _run(erase_account(user_id=user_id))
    count = _delete(RevokedLogin, RevokedLogin.expires_at <= moment)
    count += _delete(ThrottleCounter, ThrottleCounter.expires_at <= moment)
    for user_id in _user_ids():
        for model, expired in (
            (Login, Login.expires_at <= moment),
            (PersonalAccessToken, PersonalAccessToken.expires_at <= moment),
            (UsedLink, UsedLink.expires_at <= moment),
            (IdempotencyKey, IdempotencyKey.created_at <= moment - RETENTION),
            (RecentRequest, RecentRequest.created_at <= moment - KEPT),
        ):
            count += _delete(model, model.user_id == user_id, expired)
        finish_hidden(user_id)
    removal.remove_all_released_and_commit()
    return count


def list_old_conversations(used_before: datetime) -> Iterator[Expired]:
    """The conversations that `delete_old_conversations` would delete, user by user."""
    for user_id in _user_ids():
        last = None
        while found := retention.list_expired(user_id=user_id, used_before=used_before, after=last):
            db.session.commit()
            yield from found
            last = found[-1]
        db.session.commit()


def delete_old_conversations(used_before: datetime) -> Iterator[Expired]:
    """Delete conversations last used before a time, except pinned ones; yields each after its deletion."""
    for user_id in _user_ids():
        while hidden := retention.hide_expired(user_id=user_id, used_before=used_before):
            db.session.commit()
            for conversation in hidden:
                own = {"user_id": user_id, "conversation_id": conversation.id}
                _run(deletion.remove_hidden(**own, by=conversation.id))
                yield conversation
        db.session.commit()
        finish_hidden(user_id)


def _first_id_at(moment: datetime) -> str:
    """What ids of version 7 compare with that were made before or after a moment."""
    return str(UUID(int=int(moment.timestamp() * 1000) << 80))


def finish_hidden(user_id: str) -> None:
    """Remove what interrupted deletions of a user's conversations have left, and imports that began a day ago."""
    oldest_running = _first_id_at(now() - LONGEST_IMPORT)
    for conversation_id, by in deletion.list_hidden(user_id=user_id):
        if by == conversation_id or by < oldest_running:
            _run(deletion.remove_hidden(user_id=user_id, conversation_id=conversation_id, by=by))


def _run(steps: Iterator[None]) -> None:
    """Commit each of the steps of a long write."""
    for _ in with_rests(steps):
        db.session.commit()
    db.session.rollback()  # the lock with which it found that nothing is left


def rebuild_search() -> Iterator[int | None]:
    """Index all messages again; yields the size of each batch, None while another process is indexing.

    A rebuild that was interrupted is continued.
    """
    with db.engine.begin() as connection:
        backlog.begin_rebuild(connection)
    while not backlog.is_empty():
        for count in backlog.index_backlog():
            yield count
            if count is None:
                time.sleep(WAIT_S)


def _delete(model: Any, *conditions: sa.ColumnElement[bool]) -> int:
    """Delete the rows that meet the conditions in steps; how many those were."""
    counts: list[int] = []
    _run(_delete_some(model, conditions, counts))
    return sum(counts)


def _delete_some(
    model: Any, conditions: tuple[sa.ColumnElement[bool], ...], counts: list[int]
) -> Iterator[None]:
    key, limit = list(model.__table__.primary_key), min(rows_at_once(), BATCH)
    batch = sa.select(*key).where(*conditions).limit(limit)
    while rows := db.session.execute(batch).all():
        found = sa.tuple_(*key).in_(rows) if len(key) > 1 else key[0].in_([row[0] for row in rows])
        deleted = cast("sa.CursorResult[Any]", db.session.execute(sa.delete(model).where(found, *conditions)))
        counts.append(deleted.rowcount)
        yield
        if len(rows) < limit:
            return


def _user_ids() -> Iterator[str]:
    """The ids of all users; no transaction is open while one is used."""
    for rows in read_in_batches([User.id], limit=BATCH):
        for (user_id,) in rows:
            yield user_id
