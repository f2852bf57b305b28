"""Removing files that nothing refers to: the row first, then the bytes, then the note that it was to be done.

A process that is killed between any two of these leaves a note, and the next one goes on. `sweep` looks for what no
note names: bytes without a row, of an upload that was killed, and rows that an older release has left without a
reference. Both may run beside uploads: what these are about to use is locked, or younger than SWEEP_AFTER.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from ..database.columns import now
from ..database.session import db
from ..database.statements import Statement
from ..storage import Stored
from .models import AttachmentDraft, FileRelease, StoredFile
from .service import is_referred_to, release_files
from .store import name_of, storage

BATCH = 100
# an upload has its row within seconds of its bytes, as statements and waits for locks have limits
SWEEP_AFTER = timedelta(hours=1)


@dataclass
class Swept:
    """What a sweep has found."""

    incoming: int = 0  # files that were being received when their process died
    without_row: int = 0
    bytes_freed: int = 0
    unused: int = 0  # rows that nothing refers to
    without_bytes: int = (
        0  # rows that can't be served; nothing can be done about them but to send the files again
    )


_ANY_RELEASED = Statement(sa.select(sa.literal(1)).select_from(FileRelease).limit(1))
_RELEASED = sa.select(FileRelease.owner_id, FileRelease.file_id, FileRelease.created_at)


def has_released() -> bool:
    """Whether there is a file to be removed."""
    return _ANY_RELEASED.first() is not None


def remove_released_and_commit() -> int:
    """Remove a batch of files that were released; how many notes were dealt with."""
    notes = db.session.execute(_RELEASED.order_by(FileRelease.created_at).limit(BATCH)).all()
    db.session.rollback()
    for owner_id, file_id, created_at in notes:
        if _delete_row_and_commit(owner_id, file_id):
            storage().delete(name_of(owner_id, file_id))
        done = sa.delete(FileRelease).where(
            FileRelease.owner_id == owner_id,
            FileRelease.file_id == file_id,
            FileRelease.created_at == created_at,  # else it was released again, and may be unused only now
        )
        db.session.execute(done)
        db.session.commit()
    return len(notes)


def _delete_row_and_commit(owner_id: str, file_id: str) -> bool:
    """Delete the row of a file, unless something refers to it; whether its bytes are to be deleted.

    Two statements: whoever adds a reference locks the row, and has committed when this has the lock.
    """
    own = (StoredFile.user_id == owner_id, StoredFile.id == file_id)
    row = db.session.scalar(sa.select(StoredFile.id).where(*own).with_for_update())
    is_used = row is not None and is_referred_to(user_id=owner_id, file_id=file_id)
    if row is not None and not is_used:
        db.session.execute(sa.delete(StoredFile).where(*own))
    db.session.commit()
    return not is_used


def remove_all_released_and_commit() -> None:
    """Remove all files that were released, and the expired uploads."""
    while delete_expired_drafts_and_commit():
        pass
    while remove_released_and_commit():
        pass


def delete_expired_drafts_and_commit() -> int:
    """Delete a batch of uploads whose message never came, and release their files; how many."""
    query = sa.select(AttachmentDraft.user_id, AttachmentDraft.id, AttachmentDraft.file_id)
    expired = AttachmentDraft.expires_at <= now()
    rows = db.session.execute(query.where(expired).limit(BATCH).with_for_update(skip_locked=True)).all()
    for user_id, draft_id, file_id in rows:
        own = (AttachmentDraft.user_id == user_id, AttachmentDraft.id == draft_id)
        db.session.execute(sa.delete(AttachmentDraft).where(*own))
        release_files(user_id=user_id, file_ids=[file_id])
    db.session.commit()
    return len(rows)


def sweep_and_commit(*, changes: bool = True, at: datetime | None = None) -> Swept:
    """Look through the storage and the table for what does not belong together; without `changes` only count it."""
    swept, before = Swept(), (at or now()) - SWEEP_AFTER
    if changes:
        swept.incoming = storage().remove_leftovers()
    for batch in _batches(storage().names()):
        _sweep_bytes(batch, before, swept, changes)
    for rows in _batches_of_rows():
        _sweep_rows_and_commit(rows, swept, changes)
    return swept


def _sweep_bytes(batch: list[Stored], before: datetime, swept: Swept, changes: bool) -> None:
    """Delete bytes that have no row."""
    old = [stored for stored in batch if stored.modified_at < before]
    keys = [tuple(stored.name.split("/")) for stored in old]
    if not keys:
        return
    query = sa.select(StoredFile.user_id, StoredFile.id).where(
        sa.tuple_(StoredFile.user_id, StoredFile.id).in_(keys)
    )
    known = {name_of(*row) for row in db.session.execute(query)}
    db.session.rollback()
    for stored in old:
        if stored.name not in known:
            swept.without_row += 1
            swept.bytes_freed += stored.size_bytes
            if changes:
                storage().delete(stored.name)


def _sweep_rows_and_commit(rows: list[Any], swept: Swept, changes: bool) -> None:
    """Release files that nothing refers to, and count those whose bytes are gone."""
    for user_id, file_id, size_bytes in rows:
        if not is_referred_to(user_id=user_id, file_id=file_id):
            swept.unused += 1
            if changes:
                release_files(user_id=user_id, file_ids=[file_id])
        elif storage().size_of(name_of(user_id, file_id)) != size_bytes:
            swept.without_bytes += 1
    db.session.commit()


def _batches(names: Iterator[Stored]) -> Iterator[list[Stored]]:
    batch: list[Stored] = []
    for stored in names:
        batch.append(stored)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch


def _batches_of_rows() -> Iterator[list[Any]]:
    key = sa.tuple_(StoredFile.user_id, StoredFile.id)
    query = sa.select(StoredFile.user_id, StoredFile.id, StoredFile.size_bytes).order_by(
        StoredFile.user_id, StoredFile.id
    )
    types = [StoredFile.user_id.type, StoredFile.id.type]
    last: tuple[str, str] | None = None
    while True:
        following = query if last is None else query.where(key > sa.tuple_(*last, types=types))
        rows = list(db.session.execute(following.limit(BATCH)).all())
        db.session.rollback()
        if not rows:
            return
        last = rows[-1][0], rows[-1][1]
        yield rows
