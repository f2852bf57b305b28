"""Writing the words of many messages at once: of those that are being imported, of all, or of those that have none."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ..database.dialect import is_postgres
from .writer import INSERT_NUMBERED, numbered_of, vector_of

BATCH = 500

StoredMessage = tuple[str, str, str]
"""The id, the conversation's id, and the content."""

_STORED = (
    "SELECT m.id, m.conversation_id, m.content FROM messages AS m WHERE m.user_id = :owner AND m.id >= :first {which} "
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


def index_missing(connection: sa.Connection) -> None:
    """Write the words of all users' messages that have none."""
    for (user_id,) in connection.execute(sa.text("SELECT id FROM users ORDER BY id")).all():
        for _ in index_messages(lambda: connection, str(user_id), only_missing=True):
            pass


def index_messages(
    connection_of: Callable[[], sa.Connection], user_id: str, *, only_missing: bool = False
) -> Iterator[int]:
    """Write the words of a user's messages batch by batch; how many each batch has. Whoever asks may commit then."""
    query = sa.text(_STORED.format(which=_WITHOUT_WORDS if only_missing else ""))
    first = 0
    while first < 2**128:  # an import may have brought any id
        parameters = {"owner": user_id, "first": str(UUID(int=first)), "batch": BATCH}
        connection = connection_of()  # after a commit the session has another one
        rows = connection.execute(query, parameters).all()
        messages = [(str(row[0]), str(row[1]), row[2]) for row in rows]
        if not messages:
            return
        write_words(connection, user_id, messages)
        yield len(messages)
        first = UUID(messages[-1][0]).int + 1


def write_words(connection: sa.Connection, user_id: str, messages: list[StoredMessage]) -> None:
    """Write the words of a user's messages, in place of those that they had."""
    if is_postgres(connection):
        connection.execute(sa.text(_WRITE_VECTORS), _vectors(user_id, messages))
    else:
        numbered = _numbered(user_id, messages)
        connection.execute(sa.text(_REMOVE), numbered)
        connection.execute(sa.text(INSERT_NUMBERED), numbered)


def write_new_words(connection: sa.Connection, user_id: str, messages: list[StoredMessage]) -> None:
    """Write the words of messages that this transaction has inserted, so that none has any."""
    if is_postgres(connection):
        connection.execute(sa.text(_WRITE_NEW_VECTORS), _vectors(user_id, messages))
    else:
        connection.execute(sa.text(INSERT_NUMBERED), _numbered(user_id, messages))


def _vectors(user_id: str, messages: list[StoredMessage]) -> dict[str, Any]:
    vectors = [vector_of(user_id, place, message_id, text) for message_id, place, text in messages]
    return {"owner": user_id, "ids": [message[0] for message in messages], "vectors": vectors}


def _numbered(user_id: str, messages: list[StoredMessage]) -> list[dict[str, Any]]:
    return [
        {"owner": user_id, "message": message_id, **numbered_of(place, message_id, text)}
        for message_id, place, text in messages
    ]
