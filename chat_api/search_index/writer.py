"""The statements that write the words of messages: of one that is appended, or of many at once."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..database.columns import Id
from ..database.dialect import is_postgres
from ..database.session import db
from ..database.statements import Statement
from .lexemes import is_sample, number_of, plain_text, vector_text
from .models import MessageTerms
from .tokenizer import words as words_of

__all__ = ["IndexedMessage", "Words", "insert_vector", "rewrite", "vector_of", "words_of", "write", "write_new_words",
           "write_words"]  # fmt: skip

Words = list[str]
"""What `words_of` makes of a content. For a large one that takes 0.1 s, so it comes before any lock: SQLite has one
writer."""

INSERT_NUMBERED = """
    WITH RECURSIVE candidate (number, mask) AS (
        SELECT :number, 0
        UNION ALL
        SELECT :number + (random() & min(mask * 8 + 7, 2147483647)), min(mask * 8 + 7, 2147483647)
        FROM candidate WHERE EXISTS (SELECT 1 FROM message_index_docsize WHERE id = candidate.number)
    )
    INSERT INTO message_terms (user_id, message_id, number, terms)
    SELECT :owner, :message, number, :terms FROM candidate
    WHERE NOT EXISTS (SELECT 1 FROM message_index_docsize WHERE id = candidate.number)
"""
"""For SQLite: insert the words of a message under the number of its id, or the next free one that is tried: one of the
8 from there on at random, then of 64, of 512 …, and of 2**31 at last.

Whoever imports messages chooses their ids, and may have all of them want the same numbers. At random, and with a range
that grows, n such messages try about log8(n) numbers each; by any rule that follows from the ids, they could be chosen
to try the same ones.

`message_index_docsize` is FTS5's own table with a row for each number that it has (SQLite documentation, fts5.html,
section 9)."""

_OWNER, _MESSAGE = sa.bindparam("owner", type_=Id()), sa.bindparam("message", type_=Id())


def vector_of(user_id: str, conversation_id: str, message_id: str, words: Words) -> str:
    """What `insert_vector` takes as its parameter `vector`."""
    return vector_text(user_id, conversation_id, message_id, words, as_sample=is_sample())


def numbered_of(conversation_id: str, message_id: str, words: Words) -> dict[str, Any]:
    """What INSERT_NUMBERED takes besides the owner and the message."""
    return {"number": number_of(message_id), "terms": plain_text(conversation_id, words)}


def insert_vector(message: Any) -> sa.Insert:
    """For Postgres: insert the words of a message that another part of the same statement inserts.

    `message` has the columns `user_id` and `id`; the words come as the parameter `vector`.
    """
    return _insert_vector(message.c.user_id, message.c.id)


def _insert_vector(user_id: Any, message_id: Any) -> sa.Insert:
    terms = sa.cast(sa.bindparam("vector", type_=sa.Text()), postgresql.TSVECTOR)
    return sa.insert(MessageTerms).from_select(
        ("user_id", "message_id", "terms"), sa.select(user_id, message_id, terms)
    )


_WRITE_VECTOR = Statement(_insert_vector(_OWNER, _MESSAGE))
_WRITE_NUMBERED = Statement(
    sa.text(INSERT_NUMBERED).bindparams(
        _OWNER,
        _MESSAGE,
        sa.bindparam("number", type_=sa.BigInteger()),
        sa.bindparam("terms", type_=sa.Text()),
    )
)
_REMOVE = Statement(
    sa.delete(MessageTerms).where(MessageTerms.user_id == _OWNER, MessageTerms.message_id == _MESSAGE)
)


def write(*, user_id: str, conversation_id: str, message_id: str, words: Words) -> None:
    """Write the words of a message that is there already, in the transaction that inserted it."""
    whose = {"owner": user_id, "message": message_id}
    if is_postgres(db.engine):
        vector = vector_of(user_id, conversation_id, message_id, words)
        _WRITE_VECTOR.all(**whose, vector=vector)
    else:
        _WRITE_NUMBERED.all(**whose, **numbered_of(conversation_id, message_id, words))


def rewrite(*, user_id: str, conversation_id: str, message_id: str, words: Words) -> None:
    """Write the words of a message whose content has changed, in the transaction that changed it."""
    _REMOVE.all(owner=user_id, message=message_id)
    write(user_id=user_id, conversation_id=conversation_id, message_id=message_id, words=words)


IndexedMessage = tuple[str, str, Words]
"""The id, the conversation's id, and the words of the content."""

_WRITE_VECTORS = """
    INSERT INTO message_terms (user_id, message_id, terms)
    SELECT CAST(:owner AS uuid), v.id, CAST(v.vector AS tsvector)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:vectors AS text[])) AS v (id, vector)
"""
_REPLACE = "ON CONFLICT (user_id, message_id) DO UPDATE SET terms = excluded.terms"
_REMOVE_NUMBERED = "DELETE FROM message_terms WHERE user_id = :owner AND message_id = :message"


def write_words(connection: sa.Connection, user_id: str, messages: list[IndexedMessage]) -> None:
    """Write the words of a user's messages, which the transaction has locked, in place of those that they had."""
    if is_postgres(connection):
        connection.execute(sa.text(_WRITE_VECTORS + _REPLACE), _vectors(user_id, messages))
    else:
        numbered = _numbered(user_id, messages)
        connection.execute(sa.text(_REMOVE_NUMBERED), numbered)
        connection.execute(sa.text(INSERT_NUMBERED), numbered)


def write_new_words(connection: sa.Connection, user_id: str, messages: list[IndexedMessage]) -> None:
    """Write the words of messages that this transaction has inserted, so that none has any."""
    if is_postgres(connection):
        connection.execute(sa.text(_WRITE_VECTORS), _vectors(user_id, messages))
    else:
        connection.execute(sa.text(INSERT_NUMBERED), _numbered(user_id, messages))


def _vectors(user_id: str, messages: list[IndexedMessage]) -> dict[str, Any]:
    vectors = [
        vector_of(user_id, conversation_id, message_id, words)
        for message_id, conversation_id, words in messages
    ]
    return {"owner": user_id, "ids": [message[0] for message in messages], "vectors": vectors}


def _numbered(user_id: str, messages: list[IndexedMessage]) -> list[dict[str, Any]]:
    return [
        {"owner": user_id, "message": message_id, **numbered_of(conversation_id, message_id, words)}
        for message_id, conversation_id, words in messages
    ]
