"""Adding, reading and deleting attachments: labels, uploads of messages, and uploads that wait for their message."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..database.columns import new_id, now
from ..database.session import db
from ..documents import errors as documents
from ..errors import Conflict, NoText, NotFound, TextNotReady
from ..files import service as files
from ..files import texts
from ..files.models import AttachmentDraft, AttachmentFile, StoredFile
from ..files.service import Kept
from ..files.store import name_of
from ..files.texts import DocumentText
from ..messages.conditions import IN_VISIBLE
from ..messages.models import Message
from ..search_index import updates as index_updates
from ..search_index import writer as index_writer
from ..users import service as users
from ..users.quotas import Quota, Quotas, rows_of
from ..web.pagination import Listing, Page
from .models import Attachment

DRAFT_LIFETIME = timedelta(days=1)
# by the reason that files/texts.py stores
NO_TEXT = {
    documents.ENCRYPTED: "The file is encrypted, so its text can't be extracted.",
    documents.UNREADABLE: "The file is damaged, or has another format than its type says, so its text can't be "
    "extracted.",
    documents.TOO_COMPLEX: "The file is too complex for its text to be extracted.",
    documents.TOO_SLOW: "Extracting the text of this file took too long.",
    documents.TOO_LARGE: "The file is too large for its text to be extracted.",
    texts.MISSING: "The content of this file is missing, so its text can't be extracted.",
}
USED_ALREADY = "An attachment of `attachment_ids` belongs to a message already: upload the file again."

_ITS_MESSAGE: sa.Select[Any] = sa.select(sa.literal_column("1")).where(
    Message.user_id == Attachment.user_id, Message.id == Attachment.message_id, IN_VISIBLE
)
_OF_VISIBLE = sa.exists(_ITS_MESSAGE.correlate(Attachment))
# a label has neither
_WITH_FILES = sa.outerjoin(
    Attachment,
    AttachmentFile,
    sa.and_(AttachmentFile.user_id == Attachment.user_id, AttachmentFile.id == Attachment.id),
).outerjoin(
    StoredFile,
    sa.and_(StoredFile.user_id == AttachmentFile.user_id, StoredFile.id == AttachmentFile.file_id),
)
_CONTENT = (AttachmentFile.file_id, AttachmentFile.file_name, StoredFile.size_bytes, StoredFile.sha256)

QUOTAS = Quotas(rows_of(Attachment.user_id), Quota("attachments", "MAX_ATTACHMENTS_PER_USER", "attachments"))
DRAFT_QUOTAS = Quotas(
    rows_of(AttachmentDraft.user_id),
    Quota(
        "attachment_drafts",
        "MAX_DRAFTS_PER_USER",
        "uploads that belong to no message",
        "post their messages or delete some first",
    ),
    remembers=False,
)
FILE_QUOTAS = Quotas(
    files.BYTES_OF, Quota("file_bytes", "MAX_FILE_BYTES_PER_USER", "bytes of files"), remembers=False
)


class Content(NamedTuple):
    """The file of an attachment."""

    name: str  # in the storage
    file_name: str
    file_type: str
    size_bytes: int
    sha256: str
    stored_at: datetime


# -- creating ------------------------------------------------------------------------------------------------


def create_attachment(*, user_id: str, message_id: str, file_type: str, file_path: str) -> dict[str, Any]:
    """Attach a label to the user's message; the message's row numbers it. Raises NotFound."""
    QUOTAS.require_room(1, user_id=user_id)
    attachment = _attach(user_id, message_id, new_id(), file_type=file_type, file_path=file_path)
    return _as_json(attachment)


def require_room_for(*, user_id: str, size_bytes: int) -> None:
    """Refuse an upload of at least this size that the user has no room for. Raises QuotaExceeded."""
    FILE_QUOTAS.require_room(size_bytes, user_id=user_id)


def create_upload(
    *,
    user_id: str,
    kept: Kept,
    file_name: str,
    message_id: str | None = None,
    purpose: str | None = None,
    lifetime: timedelta = DRAFT_LIFETIME,
) -> tuple[dict[str, Any], str]:
    """Attach a file whose bytes are kept to the user's message, or let it wait for one, no longer than `lifetime`.

    Returns the attachment and the id of its file. Raises NotFound, QuotaExceeded, and Unavailable as `store_file`.
    """
    file_id = store_within_quota(user_id=user_id, kept=kept)
    attachment_id = new_id()
    if message_id is None:
        DRAFT_QUOTAS.require_room(1, user_id=user_id)
        draft = add_draft(
            user_id=user_id,
            attachment_id=attachment_id,
            file_id=file_id,
            file_name=file_name,
            purpose=purpose,
            lifetime=lifetime,
        )
        attachment = _draft_as_json(draft, kept.file_type)
    else:
        QUOTAS.require_room(1, user_id=user_id)
        label = {"file_type": kept.file_type, "file_path": path_of(attachment_id=attachment_id)}
        attachment = _as_json(_attach(user_id, message_id, attachment_id, **label))
        add_contents(user_id=user_id, rows=[(attachment_id, message_id, file_id, file_name)])
    return attachment | _content_as_json(file_name, kept.upload.size_bytes, kept.upload.sha256), file_id


def store_within_quota(*, user_id: str, kept: Kept) -> str:
    """Write the row of a file whose bytes are kept, where the user has room for it; its id.

    One of a user at a time, so that each counts what the others have stored. Raises QuotaExceeded, and Unavailable as
    `store_file`.
    """
    users.hold_user(user_id=user_id)
    if not files.has_content(user_id=user_id, sha256=kept.upload.sha256):
        require_room_for(user_id=user_id, size_bytes=kept.upload.size_bytes)
    return files.store_file(user_id=user_id, kept=kept)


def add_draft(
    *,
    user_id: str,
    attachment_id: str,
    file_id: str,
    file_name: str,
    purpose: str | None = None,
    lifetime: timedelta = DRAFT_LIFETIME,
) -> AttachmentDraft:
    """Let a stored file wait for its message; it expires by itself. Counts nothing."""
    moment = now()
    draft = AttachmentDraft(
        user_id=user_id,
        id=attachment_id,
        file_id=file_id,
        file_name=file_name,
        purpose=purpose,
        created_at=moment,
        expires_at=moment + lifetime,
    )
    db.session.add(draft)
    db.session.flush()
    return draft


def path_of(*, attachment_id: str) -> str:
    """The path of an attachment's content in this API."""
    return f"/chat/attachments/{attachment_id}/content"


def _attach(user_id: str, message_id: str, attachment_id: str, **label: str) -> Attachment:
    newest = sa.select(sa.func.max(Attachment.position)).where(
        Attachment.user_id == user_id, Attachment.message_id == message_id
    )
    # a count that is less than the newest position is wrong, and ends with this
    count = sa.case(
        (Message.attachment_count >= sa.func.coalesce(newest.scalar_subquery(), 0), Message.attachment_count),
        else_=newest.scalar_subquery(),
    )
    position = db.session.scalar(
        sa.update(Message)
        .where(Message.user_id == user_id, Message.id == message_id, IN_VISIBLE)
        .values(attachment_count=count + 1)
        .returning(Message.attachment_count)
    )
    if position is None:
        raise NotFound("message")
    attachment = Attachment(
        user_id=user_id, id=attachment_id, message_id=message_id, position=position, **label
    )
    db.session.add(attachment)
    db.session.flush()
    return attachment


def add_contents(*, user_id: str, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Give attachments their content: id, message, file and the file's name of each."""
    names = ("id", "message_id", "file_id", "file_name")
    db.session.execute(
        sa.insert(AttachmentFile),
        [{"user_id": user_id, **dict(zip(names, row, strict=True))} for row in rows],
    )
    note_documents(user_id=user_id, message_ids={row[1] for row in rows})


def note_documents(*, user_id: str, message_ids: Iterable[str]) -> None:
    """Have messages found by what their documents say, which have been added in this transaction."""
    index_updates.note(db.session.connection(), user_id=user_id, message_ids=message_ids)
    texts.uploaded.set()


# -- drafts of a new message ---------------------------------------------------------------------------------


def lock_drafts(*, user_id: str, attachment_ids: Sequence[str]) -> list[Any]:
    """The uploads with these ids, in this order, locked until the transaction ends.

    Raises NotFound for one that is not the user's or has expired, Conflict for one that belongs to a message already.
    """
    query = (
        sa.select(AttachmentDraft.id, AttachmentDraft.file_id, AttachmentDraft.file_name,
                  AttachmentDraft.created_at, StoredFile.file_type, StoredFile.sha256)
        .join(StoredFile, _is_file_of_draft)
        .where(AttachmentDraft.user_id == user_id, AttachmentDraft.id.in_(attachment_ids))
        .where(AttachmentDraft.expires_at > now())
        .order_by(AttachmentDraft.id)
        .with_for_update(of=AttachmentDraft)
    )  # fmt: skip
    found = {row.id: row for row in db.session.execute(query)}
    if missing := [each for each in attachment_ids if each not in found]:
        used = sa.select(Attachment.id).where(
            Attachment.user_id == user_id, Attachment.id.in_(missing), _OF_VISIBLE
        )
        if db.session.scalar(used.limit(1)) is not None:
            raise Conflict(USED_ALREADY)
        raise NotFound("upload without a message")
    return [found[each] for each in attachment_ids]


def attach_drafts(*, user_id: str, message_id: str, drafts: Sequence[Any]) -> None:
    """Make locked drafts the attachments of a message that is new in this transaction, under the same ids."""
    QUOTAS.require_room(len(drafts), user_id=user_id)
    ids = [draft.id for draft in drafts]
    own = (AttachmentDraft.user_id == user_id, AttachmentDraft.id.in_(ids))
    db.session.execute(sa.delete(AttachmentDraft).where(*own))
    rows = [
        {"user_id": user_id, "id": draft.id, "message_id": message_id, "position": position,
         "file_type": draft.file_type, "file_path": path_of(attachment_id=draft.id), "created_at": draft.created_at}
        for position, draft in enumerate(drafts, 1)
    ]  # fmt: skip
    db.session.execute(sa.insert(Attachment), rows)
    add_contents(
        user_id=user_id, rows=[(draft.id, message_id, draft.file_id, draft.file_name) for draft in drafts]
    )
    its = (Message.user_id == user_id, Message.id == message_id)
    db.session.execute(sa.update(Message).where(*its).values(attachment_count=len(drafts)))


# -- reading -------------------------------------------------------------------------------------------------


def list_attachments(*, user_id: str, message_id: str, page: Page) -> Listing[dict[str, Any]]:
    """A page of a message's attachments, oldest first. Raises NotFound where the user has no such message."""
    query = sa.select(Attachment, *_CONTENT).select_from(_WITH_FILES)
    query = query.where(Attachment.user_id == user_id, Attachment.message_id == message_id, _OF_VISIBLE)
    if page.after is not None:
        query = query.where(Attachment.position > _cursor(page.after))
    if page.before is not None:
        query = query.where(Attachment.position < _cursor(page.before))
    order = Attachment.position.desc() if page.backwards else Attachment.position
    rows = db.session.execute(query.order_by(order).limit(page.limit + 1))
    attachments = [_row_as_json(row) for row in rows]
    if not attachments:
        _require_message(user_id=user_id, message_id=message_id)
    return page.listing(attachments)


def list_drafts(
    *, user_id: str, page: Page, purpose: str | None = None, default_purpose: str | None = None
) -> Listing[dict[str, Any]]:
    """A page of the uploads that belong to no message, oldest first; with a `purpose` those that have it.

    Uploads without one have the `default_purpose`.
    """
    columns: Any = (AttachmentDraft, StoredFile.file_type, StoredFile.size_bytes, StoredFile.sha256)
    query: sa.Select[Any] = sa.select(*columns)
    query = query.join(StoredFile, _is_file_of_draft).where(AttachmentDraft.expires_at > now())
    query = query.where(AttachmentDraft.user_id == user_id)
    if purpose is not None:
        query = query.where(sa.func.coalesce(AttachmentDraft.purpose, default_purpose) == purpose)
    rows = db.session.execute(page.sort(page.narrow(query, AttachmentDraft.id), AttachmentDraft.id))
    return page.listing([_draft_row_as_json(*row) for row in rows])


def get_attachment(*, user_id: str, attachment_id: str) -> dict[str, Any]:
    """One of the user's attachments, or an upload that belongs to no message yet. Raises NotFound."""
    query = sa.select(Attachment, *_CONTENT).select_from(_WITH_FILES)
    row = db.session.execute(query.where(*_own(user_id, attachment_id))).first()
    return _row_as_json(row) if row else _get_draft(user_id, attachment_id)


def get_content(*, user_id: str, attachment_id: str) -> Content:
    """What to read of the content of an attachment. Raises NotFound, also where it is a label without content."""
    query = sa.select(Attachment.file_type, *_CONTENT, StoredFile.created_at).select_from(_WITH_FILES)
    row = db.session.execute(query.where(*_own(user_id, attachment_id))).first()
    if row is None:
        draft, *content = _find_draft(user_id, attachment_id, StoredFile.created_at)
        return Content(name_of(user_id, draft.file_id), draft.file_name, *content)
    file_type, file_id, file_name, *content = row
    if file_id is None:
        raise NotFound("content: the attachment is a path, of which the service has no file")
    return Content(name_of(user_id, file_id), file_name, file_type, *content)


def get_text(*, user_id: str, attachment_id: str) -> DocumentText:
    """The text that was extracted of an upload. Raises NotFound, NoText, TextNotReady."""
    content = get_content(user_id=user_id, attachment_id=attachment_id)
    file_id = content.name.partition("/")[2]
    found = texts.read_text(user_id=user_id, file_id=file_id)
    if found is None:  # deleted at this moment
        raise NotFound("attachment")
    if found.state is None:
        raise TextNotReady()
    if found.state == texts.NONE:
        raise NoText("There is no text in this file.")
    if found.state != texts.DONE:
        reason = found.state.partition(": ")[2]
        raise NoText(NO_TEXT.get(reason, "The text of this file could not be extracted."))
    return found


def _get_draft(user_id: str, attachment_id: str) -> dict[str, Any]:
    return _draft_row_as_json(*_find_draft(user_id, attachment_id))


def _find_draft(user_id: str, attachment_id: str, *also: Any) -> Any:
    """The draft, the type, size and hash of its file, and what else of this is named. Raises NotFound."""
    query = sa.select(AttachmentDraft, StoredFile.file_type, StoredFile.size_bytes, StoredFile.sha256, *also)
    own = (AttachmentDraft.user_id == user_id, AttachmentDraft.id == attachment_id)
    row = db.session.execute(
        query.join(StoredFile, _is_file_of_draft).where(*own, AttachmentDraft.expires_at > now())
    ).first()
    if row is None:
        raise NotFound("attachment")
    return row


# -- deleting ------------------------------------------------------------------------------------------------


def lock_attachment(*, user_id: str, attachment_id: str) -> dict[str, Any]:
    """As `get_attachment`; nobody else can delete it until the transaction ends."""
    for model, conditions in (
        (Attachment, _own(user_id, attachment_id)),
        (AttachmentDraft, (AttachmentDraft.user_id == user_id, AttachmentDraft.id == attachment_id)),
    ):
        if db.session.scalar(sa.select(model.id).where(*conditions).with_for_update()) is not None:
            return get_attachment(user_id=user_id, attachment_id=attachment_id)
    raise NotFound("attachment")


def delete_attachment(*, user_id: str, attachment_id: str) -> None:
    """Delete a locked attachment, and release its file. Its position is not given out again."""
    for model in (AttachmentFile, AttachmentDraft):
        own = (model.user_id == user_id, model.id == attachment_id)
        file_id = db.session.scalar(sa.delete(model).where(*own).returning(model.file_id))
        if file_id is not None:
            files.release_files(user_id=user_id, file_ids=[str(file_id)])
            _forget_document(user_id, attachment_id, str(file_id))
    own = (Attachment.user_id == user_id, Attachment.id == attachment_id)
    db.session.execute(sa.delete(Attachment).where(*own))


def _forget_document(user_id: str, attachment_id: str, file_id: str) -> None:
    """Let the message not be found by what the deleted document says; those that it has left are indexed again soon."""
    its_message = sa.select(Attachment.message_id).where(
        Attachment.user_id == user_id, Attachment.id == attachment_id
    )
    message_id = db.session.scalar(its_message)
    if message_id is None or not texts.has_text(user_id=user_id, file_id=file_id):
        return
    # locked, so that nobody indexes it just now with what is deleted here
    query = sa.select(Message.conversation_id, Message.content).where(
        Message.user_id == user_id, Message.id == message_id
    )
    row = db.session.execute(query.with_for_update()).first()
    if row is not None:
        scope = {"user_id": user_id, "conversation_id": str(row[0]), "message_id": str(message_id)}
        index_writer.rewrite(**scope, words=index_writer.words_of(row[1]))
        note_documents(user_id=user_id, message_ids=[str(message_id)])


# -- JSON ----------------------------------------------------------------------------------------------------


_is_file_of_draft = sa.and_(
    StoredFile.user_id == AttachmentDraft.user_id, StoredFile.id == AttachmentDraft.file_id
)


def _own(user_id: str, attachment_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return Attachment.user_id == user_id, Attachment.id == attachment_id, _OF_VISIBLE


def _row_as_json(row: Any) -> dict[str, Any]:
    attachment, file_id, *content = row
    return _as_json(attachment) | (_content_as_json(*content) if file_id is not None else {})


def _as_json(attachment: Attachment) -> dict[str, Any]:
    names = ("id", "message_id", "position", "file_type", "file_path", "created_at")
    return {name: getattr(attachment, name) for name in names}


def _draft_as_json(draft: AttachmentDraft, file_type: str) -> dict[str, Any]:
    return {
        "id": draft.id,
        "message_id": None,
        "file_type": file_type,
        "file_path": path_of(attachment_id=draft.id),
        "created_at": draft.created_at,
        "expires_at": draft.expires_at,
        "purpose": draft.purpose,
    }


def _draft_row_as_json(
    draft: AttachmentDraft, file_type: str, size_bytes: int, sha256: str
) -> dict[str, Any]:
    return _draft_as_json(draft, file_type) | _content_as_json(draft.file_name, size_bytes, sha256)


def _content_as_json(file_name: str, size_bytes: int, sha256: str) -> dict[str, Any]:
    return {"file_name": file_name, "size_bytes": size_bytes, "sha256": sha256}


def _cursor(position: int) -> sa.ColumnElement[int]:
    """A cursor, which may be larger than what the column can hold."""
    return sa.literal(position, sa.BigInteger())


def _require_message(*, user_id: str, message_id: str) -> None:
    own = sa.select(Message.id).where(Message.user_id == user_id, Message.id == message_id, IN_VISIBLE)
    if db.session.scalar(own) is None:
        raise NotFound("message")
