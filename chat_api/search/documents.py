"""Documents in the search: the words of messages with those of their documents, and which document a match is in."""

import re
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..attachments.models import Attachment
from ..database.engine import reading
from ..database.parameters import USER_ID, given
from ..database.session import db
from ..database.statements import Statement
from ..files.models import AttachmentFile, AttachmentText
from ..messages.models import Message
from ..search_index.models import SearchUpdate
from ..search_index.tokenizer import words_of_texts
from ..search_index.writer import words_of, write_words
from .matching import Matcher
from .query import Query
from .ranking import ids_parameter
from .snippets import Excerpt, excerpt_of

UPDATES_AT_ONCE = 20
INDEXED_LENGTH = 2_000_000  # characters of the documents of a message that are indexed
MAX_PAGE_BYTES = 8 * 1024 * 1024  # of documents that are read for a page of results
_WINDOW = 200_000  # characters of a long document in which the snippet is looked for

_HAS_TEXT = sa.and_(
    AttachmentText.user_id == AttachmentFile.user_id, AttachmentText.file_id == AttachmentFile.file_id
)
_IS_ATTACHED = sa.and_(Attachment.user_id == AttachmentFile.user_id, Attachment.id == AttachmentFile.id)


# -- indexing ------------------------------------------------------------------------------------------------


def texts_of(connection: sa.Connection, *, user_id: str, message_ids: Iterable[str]) -> dict[str, list[str]]:
    """The texts of the documents of each of these messages that has any, in their order, as far as they are indexed."""
    rows = (
        sa.select(
            AttachmentFile.message_id, sa.func.substr(AttachmentText.text, 1, INDEXED_LENGTH).label("text")
        )
        .join(AttachmentText, _HAS_TEXT)
        .join(Attachment, _IS_ATTACHED)
        .where(AttachmentFile.user_id == user_id, AttachmentFile.message_id.in_(list(message_ids)))
        .order_by(AttachmentFile.message_id, Attachment.position)
    )
    found: dict[str, list[str]] = {}
    lengths: dict[str, int] = {}
    for message_id, text in connection.execute(rows):
        length = lengths.get(message_id, 0)
        if length < INDEXED_LENGTH:
            found.setdefault(message_id, []).append(text[: INDEXED_LENGTH - length])
            lengths[message_id] = length + len(text)
    return found


def document_bytes() -> sa.ColumnElement[int]:
    """About how much of documents is read to index a message."""
    length = sa.func.coalesce(sa.func.sum(sa.func.length(AttachmentText.text)), 0)
    of_message = (
        sa.select(length)
        .select_from(AttachmentFile)
        .join(AttachmentText, _HAS_TEXT)
        .where(AttachmentFile.user_id == Message.user_id, AttachmentFile.message_id == Message.id)
        .correlate(Message)
    )
    return sa.case((Message.attachment_count > 0, of_message.scalar_subquery()), else_=0)


def words_with_documents(content: str, documents: list[str]) -> list[str]:
    """The words of a message with those of its documents."""
    return words_of_texts(content, documents) if documents else words_of(content)


def has_updates() -> bool:
    """Whether a message waits for being indexed again."""
    with reading(db.engine).connect() as connection:
        return connection.scalar(sa.select(SearchUpdate.user_id).limit(1)) is not None


def index_updates() -> int:
    """Index some messages again whose documents have changed; how many. Each is committed.

    A message that somebody changes at the same time is left for the next time.
    """
    with reading(db.engine).connect() as connection:
        noted = sa.select(SearchUpdate.user_id, SearchUpdate.message_id).limit(UPDATES_AT_ONCE)
        rows = connection.execute(noted).all()
    return sum(_index(user_id, message_id) for user_id, message_id in rows)


class _State(NamedTuple):
    """What the words of a message are made of."""

    conversation_id: str
    content: str
    documents: list[str]  # their ids


def _index(user_id: str, message_id: str) -> bool:
    """Index a message. Its words are made before the transaction: SQLite has one writer, and that takes time."""
    own = {"user_id": user_id, "message_ids": [message_id]}
    with reading(db.engine).connect() as connection:
        before = _state_of(connection, user_id, message_id)
        texts = texts_of(connection, **own).get(message_id, [])  # type: ignore[arg-type]
    words = words_with_documents(before.content, texts) if before else []
    with db.engine.begin() as connection:
        message = sa.select(Message.id).where(Message.user_id == user_id, Message.id == message_id)
        # in the order in which others lock them; then what whoever noted the message has changed is seen
        connection.execute(message.with_for_update(read=True))
        this = (SearchUpdate.user_id == user_id, SearchUpdate.message_id == message_id)
        connection.execute(sa.delete(SearchUpdate).where(*this))
        now = _state_of(connection, user_id, message_id)
        if now is None:
            return False
        if now != before:
            connection.rollback()
            return False
        write_words(connection, user_id, [(message_id, now.conversation_id, words)])
    return True


def _state_of(connection: sa.Connection, user_id: str, message_id: str) -> _State | None:
    this = sa.select(Message.conversation_id, Message.content).where(
        Message.user_id == user_id, Message.id == message_id
    )
    row = connection.execute(this).first()
    if row is None:
        return None
    documents = (
        sa.select(AttachmentFile.id)
        .join(AttachmentText, _HAS_TEXT)
        .where(AttachmentFile.user_id == user_id, AttachmentFile.message_id == message_id)
        .order_by(AttachmentFile.id)
    )
    return _State(*row, list(connection.scalars(documents)))


# -- finding -------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """The document that a match is in."""

    attachment_id: str
    file_name: str
    excerpt: Excerpt


def _rows_of(on_postgres: bool) -> sa.Executable:
    """The documents of messages. On SQLite they are read row by row; on Postgres the sizes are summed up first."""
    ids: Any = given("ids", sa.Text())
    rows = (
        sa.select(
            AttachmentFile.message_id,
            AttachmentFile.id,
            AttachmentFile.file_name,
            AttachmentText.text,
            Attachment.position,
        )
        .join(AttachmentText, _HAS_TEXT)
        .join(Attachment, _IS_ATTACHED)
        .where(AttachmentFile.user_id == USER_ID)
    )
    order = (AttachmentFile.message_id.desc(), Attachment.position)
    if not on_postgres:
        listed: Any = sa.func.json_each(ids).table_valued("value", name="listed")
        return rows.where(AttachmentFile.message_id.in_(sa.select(listed.c.value))).order_by(*order)
    size = sa.func.octet_length(AttachmentText.text)
    size_before = (sa.func.sum(size).over(order_by=order) - size).label("size_before")
    rows = rows.add_columns(size_before).where(
        AttachmentFile.message_id == sa.any_(sa.cast(ids, sa.ARRAY(Message.id.type)))
    )
    sized = rows.subquery("sized")
    return (
        sa.select(sized.c.message_id, sized.c.id, sized.c.file_name, sized.c.text, sized.c.position)
        .where(sized.c.size_before <= MAX_PAGE_BYTES)
        .order_by(sized.c.message_id.desc(), sized.c.position)
    )


_DOCUMENTS = Statement(_rows_of)


def find_matches(
    *, user_id: str, message_ids: list[str], matcher: Matcher, query: Query, deadline: float
) -> dict[str, Found]:
    """For each message the document that has most of the query's phrases, of those that have any.

    Ends early where there are very many documents, or large ones, or at the deadline.
    """
    if not message_ids:
        return {}
    likely = _likely_match(query)

    def read(rows: Iterable[Any]) -> dict[str, Found]:
        found: dict[str, Found] = {}
        size_bytes = 0
        for message_id, attachment_id, file_name, text, _ in rows:
            key = str(message_id)
            excerpt = _excerpt(text, matcher, likely)
            if excerpt.phrases and (key not in found or excerpt.phrases > found[key].excerpt.phrases):
                found[key] = Found(str(attachment_id), file_name, excerpt)
            size_bytes += len(text)
            if size_bytes > MAX_PAGE_BYTES or time.monotonic() > deadline:
                break
        return found

    return _DOCUMENTS.read(read, user_id=user_id, ids=ids_parameter(message_ids))


def _likely_match(query: Query) -> re.Pattern[str] | None:
    """A pattern that quickly finds where a phrase probably is; None where its words may be written in many ways."""
    if not all(term.isascii() for phrase in query.required for term in phrase.terms):
        return None
    phrases = [
        r"[^0-9A-Za-z]+".join(map(re.escape, phrase.terms)) + ("" if phrase.is_prefix else r"(?![0-9A-Za-z])")
        for phrase in query.required
    ]
    return re.compile(rf"(?<![0-9A-Za-z])(?:{'|'.join(phrases)})", re.IGNORECASE)


def _excerpt(text: str, matcher: Matcher, likely: re.Pattern[str] | None) -> Excerpt:
    """The excerpt of a document. Of a long one, only what comes after its first likely match is looked at."""
    start = 0
    if len(text) > _WINDOW:
        match = likely.search(text) if likely is not None else None
        start = max(match.start() - 1000, 0) if match else 0
    window = text[start : start + _WINDOW]
    excerpt = excerpt_of(window, matcher)
    if start:
        excerpt.snippet["cut_before"] = True
    if start + _WINDOW < len(text):
        excerpt.snippet["cut_after"] = True
    return excerpt
