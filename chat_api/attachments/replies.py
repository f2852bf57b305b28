"""Files that a model made: stored while its reply is written, and attached to its message when that is stored.

Until then each is a draft, as an upload is that belongs to no message yet. So what a crash leaves is found: bytes
without a row by `flask attachments sweep`, and drafts whose reply never became a message when they expire.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..database.columns import new_id
from ..database.parameters import MESSAGE_ID, USER_ID, given, named_new, new
from ..database.session import db
from ..database.statements import Statement
from ..errors import ApiError, Unavailable, database_errors, is_transient
from ..files import service as files
from ..files.models import AttachmentDraft, AttachmentFile, StoredFile
from ..files.service import Kept
from ..messages.models import Message
from .models import Attachment
from .service import QUOTAS, add_draft, path_of, store_within_quota

_THIS_DRAFT = (
    AttachmentDraft.user_id == USER_ID,
    AttachmentDraft.id == given("attachment_id", AttachmentDraft.id.type),
)
_TAKE = Statement(
    sa.delete(AttachmentDraft)
    .where(*_THIS_DRAFT)
    .returning(AttachmentDraft.file_id, AttachmentDraft.file_name, AttachmentDraft.created_at)
)
_ATTACH = Statement(
    sa.insert(Attachment).values({column.key: new(column) for column in Attachment.__table__.c})
)
_ADD_FILE = Statement(
    sa.insert(AttachmentFile).values({column.key: new(column) for column in AttachmentFile.__table__.c})
)
_COUNT = Statement(
    sa.update(Message)
    .where(Message.user_id == USER_ID, Message.id == MESSAGE_ID)
    .values(attachment_count=Message.attachment_count + given("added", sa.Integer()))
    .returning(Message.attachment_count)
)
_OF_MESSAGE = Statement(
    sa.select(
        Attachment.id,
        Attachment.file_type,
        AttachmentFile.file_name,
        StoredFile.size_bytes,
        StoredFile.sha256,
    )
    .join(
        AttachmentFile,
        sa.and_(AttachmentFile.user_id == Attachment.user_id, AttachmentFile.id == Attachment.id),
    )
    .join(
        StoredFile,
        sa.and_(StoredFile.user_id == AttachmentFile.user_id, StoredFile.id == AttachmentFile.file_id),
    )
    .where(Attachment.user_id == USER_ID, Attachment.message_id == MESSAGE_ID)
)


class Taken(NamedTuple):
    """A draft that is about to be attached."""

    id: str
    file_id: str
    file_name: str
    file_type: str
    created_at: datetime


class RowNotWritten(Exception):
    """Nothing was committed for the bytes that are kept. `cause` says why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause

    @property
    def may_pass(self) -> bool:
        """Whether it is worth another try."""
        return isinstance(self.cause, Unavailable) or is_transient(self.cause)


def create_draft_and_commit(*, user_id: str, kept: Kept, file_name: str) -> dict[str, Any]:
    """Store the row of a file whose bytes are kept, and a draft of it; what clients get to know of it.

    Nobody counts these drafts: a reply has few. Raises RowNotWritten, and Unavailable where nobody knows whether it was
    committed.
    """
    attachment_id = new_id()
    try:
        file_id = store_within_quota(user_id=user_id, kept=kept)
        QUOTAS.require_room(1, user_id=user_id)
        add_draft(user_id=user_id, attachment_id=attachment_id, file_id=file_id, file_name=file_name)
    except database_errors(ApiError) as error:
        db.session.rollback()
        raise RowNotWritten(error) from error
    try:
        db.session.commit()
    except database_errors() as error:
        db.session.rollback()
        raise Unavailable() from error
    files.discard_bytes(user_id=user_id, kept=kept, file_id=file_id)
    return _described(
        attachment_id, kept.upload.file_type, file_name, kept.upload.size_bytes, kept.upload.sha256
    )


def take_drafts(*, user_id: str, attachments: Iterable[Mapping[str, Any]]) -> list[Taken]:
    """Those of these drafts that are still there, which the transaction attaches to a message."""
    taken = []
    for each in attachments:
        row = _TAKE.first(user_id=user_id, attachment_id=each["id"])
        if row is not None:
            file_id, file_name, created_at = row
            moment = created_at if isinstance(created_at, datetime) else datetime.fromisoformat(created_at)
            taken.append(Taken(each["id"], str(file_id), file_name, each["file_type"], moment))
    return taken


def attach(*, user_id: str, message_id: str, taken: Sequence[Taken], first_position: int = 1) -> None:
    """Make drafts that were taken the attachments of a message, in the transaction that stores it."""
    for position, each in enumerate(taken, first_position):
        own = {"user_id": user_id, "id": each.id, "message_id": message_id}
        label = {"position": position, "file_type": each.file_type, "created_at": each.created_at}
        _ATTACH.all(**named_new({**own, **label, "file_path": path_of(attachment_id=each.id)}))
        _ADD_FILE.all(**named_new({**own, "file_id": each.file_id, "file_name": each.file_name}))


def attach_more(*, user_id: str, message_id: str, taken: Sequence[Taken]) -> None:
    """The same for a message that is stored already."""
    if taken:
        [(count,)] = _COUNT.all(user_id=user_id, message_id=message_id, added=len(taken))
        attach(user_id=user_id, message_id=message_id, taken=taken, first_position=count - len(taken) + 1)


def drop_drafts_and_commit(*, user_id: str, attachment_ids: Sequence[str]) -> None:
    """Delete those of these drafts that belong to no message: their reply has none."""
    own = (AttachmentDraft.user_id == user_id, AttachmentDraft.id.in_(attachment_ids))
    file_ids = db.session.scalars(sa.delete(AttachmentDraft).where(*own).returning(AttachmentDraft.file_id))
    files.release_files(user_id=user_id, file_ids=list(file_ids))
    db.session.commit()


def describe_attachments(*, user_id: str, message_id: str) -> dict[str, dict[str, Any]]:
    """What clients get to know of the files of a message, by the ids of its attachments."""
    rows = _OF_MESSAGE.all(user_id=user_id, message_id=message_id)
    return {str(attachment_id): _described(str(attachment_id), *rest) for attachment_id, *rest in rows}


def _described(
    attachment_id: str, file_type: str, file_name: str, size_bytes: int, sha256: str
) -> dict[str, Any]:
    return {
        "id": attachment_id,
        "file_type": file_type,
        "file_name": file_name,
        "size_bytes": size_bytes,
        "sha256": sha256,
        "file_path": path_of(attachment_id=attachment_id),
    }
