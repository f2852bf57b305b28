"""Writing the words of many messages at once: of those that are being imported, of all, or of those that have none."""

from typing import Any

import sqlalchemy as sa

from .lexemes import STEP, number_of, plain_text, vector_text
from .words import words

BATCH = 500
LOWEST = "00000000-0000-0000-0000-000000000000"

StoredMessage = tuple[str, str, str]
"""The id, the conversation's id, and the content."""

_STORED = (
    "SELECT m.id, m.conversation_id, m.content FROM messages AS m WHERE m.user_id = :owner AND m.id > :after {which} "
    "ORDER BY m.id LIMIT :batch"
)
_WITHOUT_WORDS = (
    "AND NOT EXISTS (SELECT 1 FROM message_terms AS t WHERE t.user_id = m.user_id AND t.message_id = m.id)"
)
# the lock keeps a message from being deleted before its words are there
_WRITE_VECTORS = """
    INSERT INTO message_terms (user_id, message_id, terms)
    SELECT m.user_id, m.id, CAST(v.vector AS tsvector)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:vectors AS text[])) AS v (id, vector)
    JOIN messages AS m ON m.user_id = :owner AND m.id = v.id
    FOR KEY SHARE OF m
    ON CONFLICT (user_id, message_id) DO UPDATE SET terms = excluded.terms
"""
_WRITE_NEW_VECTORS = """
    INSERT INTO message_terms (user_id, message_id, terms)
    SELECT CAST(:owner AS uuid), v.id, CAST(v.vector AS tsvector)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:vectors AS text[])) AS v (id, vector)
"""
_REMOVE = "DELETE FROM message_terms WHERE user_id = :owner AND message_id = :message"
_WRITE_NUMBERED = f"""
    WITH RECURSIVE free (number, tries) AS (
        SELECT :number, 1 UNION ALL SELECT number + {STEP}, tries + 1 FROM free
        WHERE EXISTS (SELECT 1 FROM message_index_docsize WHERE id = free.number)
    )
    INSERT INTO message_terms (user_id, message_id, number, terms)
    SELECT :owner, :message, max(number), :terms FROM free
"""  # noqa: S608


def index_missing(connection: sa.Connection) -> None:
    """Write the words of all users' messages that have none."""
    for (user_id,) in connection.execute(sa.text("SELECT id FROM users ORDER BY id")).all():
        written = [LOWEST]
        while written:
            written = index_next(connection, str(user_id), after=written[-1], only_missing=True)


def index_next(
    connection: sa.Connection, user_id: str, *, after: str, only_missing: bool = False
) -> list[str]:
    """Write the words of a user's next messages behind an id, in one statement or transaction; the ids of these."""
    query = sa.text(_STORED.format(which=_WITHOUT_WORDS if only_missing else ""))
    rows = connection.execute(query, {"owner": user_id, "after": after, "batch": BATCH}).all()
    messages = [(str(row[0]), str(row[1]), row[2]) for row in rows]
    if not messages:
        return []
    write_words(connection, user_id, messages)
    return [message_id for message_id, *_ in messages]


def write_words(connection: sa.Connection, user_id: str, messages: list[StoredMessage]) -> None:
    """Write the words of a user's messages, in place of those that they had."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(_WRITE_VECTORS), _vectors(user_id, messages))
    else:
        numbered = _numbered(user_id, messages)
        connection.execute(sa.text(_REMOVE), numbered)
        connection.execute(sa.text(_WRITE_NUMBERED), numbered)


def write_new_words(connection: sa.Connection, user_id: str, messages: list[StoredMessage]) -> None:
    """Write the words of messages that this transaction has inserted, so that none has any."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(_WRITE_NEW_VECTORS), _vectors(user_id, messages))
    else:
        connection.execute(sa.text(_WRITE_NUMBERED), _numbered(user_id, messages))


def _vectors(user_id: str, messages: list[StoredMessage]) -> dict[str, Any]:
    vectors = [vector_text(user_id, place, message_id, words(text)) for message_id, place, text in messages]
    return {"owner": user_id, "ids": [message[0] for message in messages], "vectors": vectors}


def _numbered(user_id: str, messages: list[StoredMessage]) -> list[dict[str, Any]]:
    return [
        {
            "owner": user_id,
            "message": message_id,
            "number": number_of(message_id),
            "terms": plain_text(place, words(text)),
        }
        for message_id, place, text in messages
    ]
