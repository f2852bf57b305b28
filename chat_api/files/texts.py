"""The texts of files: extracted once, after the upload, by a job that goes on after a crash.

A file is to do while its `text_state` is NULL. Each try is counted before it begins, so one that takes the process down
with it is not tried for ever. The text and the state are written in one transaction.
"""

import logging
import threading
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..database.dialect import is_postgres
from ..database.engine import reading
from ..database.session import db
from ..documents.errors import UNREADABLE, Unextractable
from ..documents.extraction import ZIPS, extract, kind_of
from ..search_index import updates
from ..storage import NotStored
from .contents import opened
from .models import AttachmentFile, AttachmentText, StoredFile
from .store import name_of

MAX_ATTEMPTS = 3
DONE, NONE, FAILED = "done", "none", "failed"
CUT = "done: cut"  # in the table only: done, of a document that has more text than is kept
MISSING, INTERRUPTED = "missing", "interrupted"
FIRST_ID = "00000000-0000-0000-0000-000000000000"

uploaded = threading.Event()
"""Set when there may be something to do, so that the job of this process need not wait for its next look."""

log = logging.getLogger(__name__)


class Waiting(NamedTuple):
    """A file whose text is not extracted yet."""

    user_id: str
    file_id: str
    file_type: str
    attempts: int


class DocumentText(NamedTuple):
    """What is known of a file's text."""

    state: str | None  # NULL: not extracted yet; DONE, NONE, or "failed: " and why
    text: str = ""
    is_cut: bool = False  # the document has more


_COLUMNS = (StoredFile.user_id, StoredFile.id, StoredFile.file_type, StoredFile.text_attempts)


def find_waiting(after_user_id: str = FIRST_ID) -> Waiting | None:
    """A file to do of the next user after this one: nobody's files wait for all those of another."""
    with reading(db.engine).connect() as connection:
        for of_user in (StoredFile.user_id > after_user_id, StoredFile.user_id <= after_user_id):
            query = (
                sa.select(*_COLUMNS)
                .where(StoredFile.text_state.is_(None), of_user)
                .order_by(StoredFile.user_id, StoredFile.id)
                .limit(1)
            )
            if row := connection.execute(query).first():
                return Waiting(*row)
    return None


def extract_waiting(waiting: Waiting) -> DocumentText:
    """Extract the text of a file and store it. Commits, before and after.

    Raises OSError where the storage can't be read at the moment; that is no try.
    """
    if waiting.attempts >= MAX_ATTEMPTS:
        found = DocumentText(f"{FAILED}: {INTERRUPTED}")
    else:
        _count_attempt(waiting, 1)
        try:
            found = _extracted(waiting)
        except OSError:
            _count_attempt(waiting, 0)
            raise
    _store(waiting, found)
    return found


def read_text(*, user_id: str, file_id: str, extract_now: bool = False) -> DocumentText | None:
    """What is known of the text of a user's file; None where there is no such file. Outside a transaction.

    With `extract_now` it is extracted where nobody has done so yet, which takes up to a minute. Raises OSError where
    the storage can't be read.
    """
    own = (StoredFile.user_id == user_id, StoredFile.id == file_id)
    join = sa.and_(AttachmentText.user_id == StoredFile.user_id, AttachmentText.file_id == StoredFile.id)
    query = sa.select(*_COLUMNS, StoredFile.text_state, AttachmentText.text).where(*own)
    with reading(db.engine).connect() as connection:
        row = connection.execute(query.outerjoin(AttachmentText, join)).first()
    if row is None:
        return None
    if row.text_state is None and extract_now:
        return extract_waiting(Waiting(*row[:4]))
    if row.text_state == CUT:
        return DocumentText(DONE, row.text or "", is_cut=True)
    return DocumentText(row.text_state, row.text or "")


def has_text(*, user_id: str, file_id: str) -> bool:
    """Whether a file has a text; in the caller's transaction."""
    own = (AttachmentText.user_id == user_id, AttachmentText.file_id == file_id)
    return db.session.scalar(sa.select(AttachmentText.file_id).where(*own)) is not None


def _extracted(waiting: Waiting) -> DocumentText:
    kind = kind_of(waiting.file_type)
    if kind is None:
        return DocumentText(NONE)
    try:
        with opened(name_of(waiting.user_id, waiting.file_id)) as file:
            extracted = extract(file, kind)
    except NotStored:
        return DocumentText(f"{FAILED}: {MISSING}")
    except Unextractable as error:
        if waiting.file_type in ZIPS and error.code == UNREADABLE:  # a zip of anything, and no document
            return DocumentText(NONE)
        return DocumentText(f"{FAILED}: {error.code}")
    text, is_cut = extracted.text, extracted.is_cut
    return DocumentText(DONE, text, is_cut) if text else DocumentText(NONE)


def _count_attempt(waiting: Waiting, growth: int) -> None:
    own = (StoredFile.user_id == waiting.user_id, StoredFile.id == waiting.file_id)
    with db.engine.begin() as connection:
        connection.execute(sa.update(StoredFile).where(*own).values(text_attempts=waiting.attempts + growth))


def _store(waiting: Waiting, found: DocumentText) -> None:
    """Write what was found, and have the messages indexed that have the file.

    The row is locked against new references first: a message that gets the file before this is indexed because of
    this, one that gets it afterwards because of that.
    """
    own = (StoredFile.user_id == waiting.user_id, StoredFile.id == waiting.file_id)
    with db.engine.begin() as connection:
        if connection.scalar(sa.select(StoredFile.id).where(*own).with_for_update()) is None:
            return  # deleted while it was read
        state = CUT if found.is_cut else found.state
        connection.execute(sa.update(StoredFile).where(*own).values(text_state=state))
        if found.state != DONE:
            return
        insert = (postgresql if is_postgres(connection) else sqlite).insert(AttachmentText)
        row = {"user_id": waiting.user_id, "file_id": waiting.file_id, "text": found.text}
        key = ["user_id", "file_id"]
        connection.execute(
            insert.values(row).on_conflict_do_update(index_elements=key, set_={"text": found.text})
        )
        users_of_it = sa.select(AttachmentFile.message_id).where(
            AttachmentFile.user_id == waiting.user_id, AttachmentFile.file_id == waiting.file_id
        )
        message_ids = connection.scalars(users_of_it.distinct()).all()
        updates.note(connection, user_id=waiting.user_id, message_ids=message_ids)


def count_states() -> dict[str, int]:
    """How many files there are of each state, over all users; "waiting" are those to be done."""
    state = sa.func.coalesce(StoredFile.text_state, "waiting")
    with reading(db.engine).connect() as connection:
        rows = connection.execute(sa.select(state, sa.func.count()).group_by(state)).all()
    return {str(name): int(count) for name, count in rows}


def forget_failures(connection: sa.Connection) -> int:
    """Have all files tried again whose text could not be extracted; how many those are."""
    failed = StoredFile.text_state.like(f"{FAILED}%")
    result = connection.execute(sa.update(StoredFile).where(failed).values(text_state=None, text_attempts=0))
    return result.rowcount
