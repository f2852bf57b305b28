"""The attachments of messages that are sent to a model, with what is known of their files. Only reads."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..database.columns import now
from ..database.id_lists import ids_value, select_listed
from ..database.parameters import USER_ID, given
from ..database.statements import Statement
from ..errors import Conflict, NotFound
from ..files.models import AttachmentDraft, AttachmentFile, StoredFile
from ..files.store import name_of
from .models import Attachment
from .service import USED_ALREADY

MAX_OF_MESSAGE = 100  # the first ones; `attachment_ids` takes fewer


class Sendable(NamedTuple):
    """An attachment. A label has no file."""

    id: str
    file_type: str
    file_name: str
    size_bytes: int
    sha256: str
    name: str | None  # in the storage
    is_link: bool = False  # a label whose path is an address that its message names among its parts


def _of_messages(on_postgres: bool) -> sa.Executable:
    """Of the messages in the parameter `ids`, in order. Names a row by its key alone."""
    number = sa.func.row_number().over(partition_by=Attachment.message_id, order_by=Attachment.position)
    columns = (Attachment.message_id, Attachment.id, Attachment.file_type, Attachment.file_path)
    listed = select_listed((*columns, number.label("number")), Attachment.message_id, on_postgres=on_postgres)
    numbered = listed.subquery("numbered")
    file = sa.and_(AttachmentFile.user_id == USER_ID, AttachmentFile.id == numbered.c.id)
    stored = sa.and_(StoredFile.user_id == USER_ID, StoredFile.id == AttachmentFile.file_id)
    return (
        sa.select(
            numbered.c.message_id,
            numbered.c.id,
            numbered.c.file_type,
            sa.func.coalesce(AttachmentFile.file_name, numbered.c.file_path),
            StoredFile.size_bytes,
            StoredFile.sha256,
            StoredFile.id,
        )
        .select_from(numbered)
        .outerjoin(AttachmentFile, file)
        .outerjoin(StoredFile, stored)
        .where(numbered.c.number <= MAX_OF_MESSAGE)
        .order_by(numbered.c.message_id, numbered.c.number)
    )


def _drafts(on_postgres: bool) -> sa.Executable:
    stored = sa.and_(StoredFile.user_id == USER_ID, StoredFile.id == AttachmentDraft.file_id)
    columns = (AttachmentDraft.id, StoredFile.file_type, AttachmentDraft.file_name, StoredFile.size_bytes,
               StoredFile.sha256, StoredFile.id)  # fmt: skip
    query: sa.Select[Any] = select_listed(columns, AttachmentDraft.id, on_postgres=on_postgres)
    is_there = AttachmentDraft.expires_at > given("moment", AttachmentDraft.expires_at.type)
    return query.join(StoredFile, stored).where(is_there)


def _used(on_postgres: bool) -> sa.Executable:
    found: sa.Select[Any] = select_listed((Attachment.id,), Attachment.id, on_postgres=on_postgres)
    return found.limit(1)


_OF_MESSAGES, _DRAFTS, _USED = Statement(_of_messages), Statement(_drafts), Statement(_used)


def list_of_messages(*, user_id: str, message_ids: Sequence[str]) -> dict[str, list[Sendable]]:
    """The attachments of the user's messages by the messages' ids, in their order."""
    found: dict[str, list[Sendable]] = {}
    for message_id, *row in _OF_MESSAGES.all(user_id=user_id, ids=ids_value(message_ids)):
        found.setdefault(str(message_id), []).append(_sendable(user_id, row))
    return found


def list_drafts(*, user_id: str, attachment_ids: Sequence[str]) -> list[Sendable]:
    """The user's uploads with these ids, which belong to no message yet, in this order.

    Raises NotFound and Conflict, as `service.lock_drafts` does.
    """
    rows = _DRAFTS.all(user_id=user_id, ids=ids_value(attachment_ids), moment=now())
    found = {sendable.id: sendable for sendable in (_sendable(user_id, row) for row in rows)}
    if missing := [each for each in attachment_ids if each not in found]:
        if _USED.first(user_id=user_id, ids=ids_value(missing)) is not None:
            raise Conflict(USED_ALREADY)
        raise NotFound("upload without a message")
    return [found[each] for each in attachment_ids]


def _sendable(user_id: str, row: Sequence[Any]) -> Sendable:
    attachment_id, file_type, file_name, size_bytes, sha256, file_id = row
    name = name_of(user_id, str(file_id)) if file_id is not None else None
    return Sendable(str(attachment_id), file_type, file_name, size_bytes or 0, sha256 or "", name)
