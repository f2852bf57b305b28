"""Files that are named in a message which does not take them over: the message gets attachments of its own of them.

An upload in `attachment_ids` becomes the message's attachment itself, once. Here the same file may be named again and
again, also one that is another message's; the bytes are stored once all the same.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..conversations.models import is_in_visible
from ..database.columns import now
from ..database.id_lists import ids_value, select_listed
from ..database.parameters import USER_ID, given
from ..database.session import db
from ..database.statements import Statement
from ..errors import NotFound, Unavailable
from ..files.models import AttachmentDraft, AttachmentFile, StoredFile
from ..messages.models import Message
from .models import Attachment
from .service import QUOTAS, add_contents, path_of


class FoundFile(NamedTuple):
    """A file of the user, by whatever attachment it was found."""

    file_id: str
    file_name: str
    file_type: str
    size_bytes: int
    sha256: str


LINK = "https://"


def is_link(path: str) -> bool:
    """Whether a path can be handed on as a link."""
    return path[: len(LINK)].lower() == LINK


class LinkedFile(NamedTuple):
    """A file at an address of its client's, which is handed on as it is and never fetched."""

    file_type: str
    url: str


def _found(on_postgres: bool, *, among_drafts: bool) -> sa.Executable:
    model: Any = AttachmentDraft if among_drafts else AttachmentFile
    its_file = sa.and_(StoredFile.user_id == USER_ID, StoredFile.id == model.file_id)
    columns = (model.id, StoredFile.id, model.file_name, StoredFile.file_type, StoredFile.size_bytes,
               StoredFile.sha256)  # fmt: skip
    query: sa.Select[Any] = select_listed(columns, model.id, on_postgres=on_postgres)
    query = query.join(StoredFile, its_file)
    if among_drafts:
        return query.where(AttachmentDraft.expires_at > given("moment", AttachmentDraft.expires_at.type))
    its_message = sa.and_(Message.user_id == USER_ID, Message.id == AttachmentFile.message_id)
    return query.join(Message, its_message).where(is_in_visible(USER_ID, Message.conversation_id))


_DRAFTS = Statement(partial(_found, among_drafts=True))
_ATTACHED = Statement(partial(_found, among_drafts=False))


def find_files(*, user_id: str, attachment_ids: Iterable[str]) -> dict[str, FoundFile]:
    """The files with these ids, of uploads and of attachments of messages. Only reads.

    Raises NotFound where one is neither, has expired, or is a label without content.
    """
    wanted = list(dict.fromkeys(attachment_ids))
    found: dict[str, FoundFile] = {}
    for statement, more in ((_DRAFTS, {"moment": now()}), (_ATTACHED, {})):
        if missing := [each for each in wanted if each not in found]:
            for attachment_id, file_id, *rest in statement.all(
                user_id=user_id, ids=ids_value(missing), **more
            ):
                found[str(attachment_id)] = FoundFile(str(file_id), *rest)
    if len(found) < len(wanted):
        raise NotFound("file")
    return found


def attach_files(
    *, user_id: str, message_id: str, files: Sequence[tuple[str, FoundFile | LinkedFile]]
) -> None:
    """Give a message that is new in this transaction attachments with these ids and files, in this order.
    Of links they are labels.

    Raises QuotaExceeded, and Unavailable where a file was removed since it was found.
    """
    if not files:
        return
    QUOTAS.require_room(len(files), user_id=user_id)
    stored = [(id_, file) for id_, file in files if isinstance(file, FoundFile)]
    if stored:
        _hold(user_id, {file.file_id for _, file in stored})
    moment = now()
    rows = [
        {"user_id": user_id, "id": id_, "message_id": message_id, "position": position,
         "file_type": file.file_type, "created_at": moment,
         "file_path": file.url if isinstance(file, LinkedFile) else path_of(attachment_id=id_)}
        for position, (id_, file) in enumerate(files, 1)
    ]  # fmt: skip
    db.session.execute(sa.insert(Attachment), rows)
    if stored:
        rows_of_contents = [(id_, message_id, file.file_id, file.file_name) for id_, file in stored]
        add_contents(user_id=user_id, rows=rows_of_contents)
    its = (Message.user_id == user_id, Message.id == message_id)
    db.session.execute(sa.update(Message).where(*its).values(attachment_count=len(files)))


def _hold(user_id: str, file_ids: set[str]) -> None:
    """Lock files, so that nobody removes them until the transaction ends; in the order of their ids."""
    own = (StoredFile.user_id == user_id, StoredFile.id.in_(file_ids))
    query = sa.select(StoredFile.id).where(*own).order_by(StoredFile.id).with_for_update()
    if len(db.session.scalars(query).all()) < len(file_ids):
        raise Unavailable("A file was being deleted while it was named; send the request again.")
