"""Storing files once for equal content, and knowing what refers to them.

The bytes come first: they are durable in the storage before the transaction that inserts their row begins, and they go
after the commit that deletes the row. So a row without bytes can't be; bytes without a row are found by `sweep`.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..database.bulk import rows_at_once
from ..database.columns import new_id, now
from ..database.dialect import is_postgres
from ..database.parameters import USER_ID, given
from ..database.session import db
from ..database.statements import Statement
from ..documents.extraction import kind_of
from ..errors import Unavailable
from ..storage import Incoming
from .models import UNKNOWN, AttachmentDraft, AttachmentFile, FileRelease, StoredFile
from .store import name_of, storage

log = logging.getLogger(__name__)


class Upload(NamedTuple):
    """What is known of a file that has been received."""

    sha256: str
    size_bytes: int
    file_type: str


class Kept(NamedTuple):
    """Bytes that are in the storage, under the name of a row that is still to be written unless `is_known`."""

    file_id: str
    is_known: bool
    upload: Upload
    known_type: str = ""  # what the row says that there is

    @property
    def file_type(self) -> str:
        """What the row says at the end: content may be a text of several types, and the last upload decides, unless
        it knows nothing."""
        return (
            self.known_type if self.known_type and self.upload.file_type == UNKNOWN else self.upload.file_type
        )


# -- storing -------------------------------------------------------------------------------------------------


_FIND = Statement(
    sa.select(StoredFile.id, StoredFile.file_type).where(
        StoredFile.user_id == USER_ID, StoredFile.sha256 == given("sha256", sa.String())
    )
)
_FIND_WHOLE = Statement(
    sa.select(StoredFile.id, StoredFile.size_bytes, StoredFile.file_type).where(
        StoredFile.user_id == USER_ID, StoredFile.sha256 == given("sha256", sa.String())
    )
)
# of all files of a user, each content once
BYTES_OF = Statement(sa.select(sa.func.sum(StoredFile.size_bytes)).where(StoredFile.user_id == USER_ID))


def keep_bytes(*, user_id: str, incoming: Incoming, upload: Upload) -> Kept:
    """Put what was received into the storage, unless the user has this content there. Outside a transaction."""
    row = _FIND.first(user_id=user_id, sha256=upload.sha256)
    file_id = str(row[0]) if row else new_id()
    name = name_of(user_id, file_id)
    if row is None or storage().size_of(name) != upload.size_bytes:  # lost bytes come back with an upload
        storage().put(name, incoming)
    return Kept(file_id, row is not None, upload, row[1] if row else "")


def find_kept(*, user_id: str, sha256: str) -> Kept | None:
    """The user's file with this content, if there is one and its bytes are there."""
    row = _FIND_WHOLE.first(user_id=user_id, sha256=sha256)
    if row is None:
        return None
    file_id, size_bytes, file_type = str(row[0]), row[1], row[2]
    is_there = storage().size_of(name_of(user_id, file_id)) == size_bytes
    return Kept(file_id, True, Upload(sha256, size_bytes, file_type), file_type) if is_there else None


def store_file(*, user_id: str, kept: Kept) -> str:
    """Write the row of a file whose bytes are kept, or lock the one that has this content; the file's id.

    Nobody removes the file until the transaction ends. Raises Unavailable where it was removed since `keep_bytes`.
    """
    if kept.is_known:
        touch = sa.update(StoredFile).where(StoredFile.user_id == user_id, StoredFile.id == kept.file_id)
        changes = {"last_used_at": now(), **_changed_type(kept)}
        found = db.session.scalar(touch.values(changes).returning(StoredFile.id))
        if found is None:
            raise Unavailable("This content was being deleted while it was sent; send it again.")
        return str(found)
    insert: Any = (postgresql if is_postgres(db.engine) else sqlite).insert(StoredFile)
    moment = now()
    values = {"user_id": user_id, "id": kept.file_id, "created_at": moment, "last_used_at": moment}
    upsert = insert.values(**values, **kept.upload._asdict()).on_conflict_do_update(
        index_elements=["user_id", "sha256"], set_={"last_used_at": moment, "file_type": kept.file_type}
    )
    return str(db.session.scalar(upsert.returning(StoredFile.id)))


def _changed_type(kept: Kept) -> dict[str, Any]:
    """The columns that change where content has another type than it had; its text may be extracted only now."""
    if kept.file_type == kept.known_type:
        return {}
    had_text = kind_of(kept.known_type) is not None
    return {"file_type": kept.file_type} | ({} if had_text else {"text_state": None, "text_attempts": 0})


def discard_bytes(*, user_id: str, kept: Kept, file_id: str | None = None) -> None:
    """Delete bytes that were kept and are not used: nothing was committed with them, or another upload of the same
    content was first, as `file_id` says. After the transaction."""
    if not kept.is_known and kept.file_id != file_id:
        try:
            storage().delete(name_of(user_id, kept.file_id))
        except (
            OSError
        ) as error:  # the response must not depend on it, and `flask attachments sweep` finds them
            log.warning("bytes that nobody uses are left in the storage: %s", error)


def has_content(*, user_id: str, sha256: str) -> bool:
    """Whether the user has a file with this content."""
    return _FIND.first(user_id=user_id, sha256=sha256) is not None


# -- releasing -----------------------------------------------------------------------------------------------


def release_files(*, user_id: str, file_ids: Sequence[str]) -> None:
    """Note that references to these files are deleted in this transaction; the job removes what has none left."""
    if not file_ids:
        return
    insert: Any = (postgresql if is_postgres(db.engine) else sqlite).insert(FileRelease)
    rows = [
        {"owner_id": user_id, "file_id": file_id, "created_at": now()} for file_id in sorted(set(file_ids))
    ]
    # also where it is noted already: the job that looks at it at this moment looks again then
    upsert = insert.values(rows)
    db.session.execute(
        upsert.on_conflict_do_update(
            index_elements=["owner_id", "file_id"], set_={"created_at": upsert.excluded.created_at}
        )
    )


def release_files_of_messages(*, user_id: str, message_ids: Sequence[str]) -> None:
    """The same for the files of messages that are deleted in this transaction; before that."""
    if not message_ids:
        return
    query = sa.select(AttachmentFile.file_id).where(
        AttachmentFile.user_id == user_id, AttachmentFile.message_id.in_(message_ids)
    )
    release_files(user_id=user_id, file_ids=list(db.session.scalars(query.distinct())))


def delete_all(*, user_id: str) -> Iterator[None]:
    """Delete the rows of all files of a user, and what refers to them, in steps, each to be committed.

    Their bytes follow: each step notes them, as with the rows nobody would know their names any more.
    """
    query = sa.select(StoredFile.id).where(StoredFile.user_id == user_id)
    while ids := list(db.session.scalars(query.limit(min(rows_at_once(), 1000)))):
        release_files(user_id=user_id, file_ids=ids)
        for model in (AttachmentFile, AttachmentDraft):
            db.session.execute(sa.delete(model).where(model.user_id == user_id, model.file_id.in_(ids)))
        db.session.execute(sa.delete(StoredFile).where(StoredFile.user_id == user_id, StoredFile.id.in_(ids)))
        yield


def is_referred_to(*, user_id: str, file_id: str) -> bool:
    """Whether an attachment or a draft has this file."""
    return any(
        db.session.scalar(
            sa.select(model.id).where(model.user_id == user_id, model.file_id == file_id).limit(1)
        )
        for model in (AttachmentFile, AttachmentDraft)
    )
