"""The statements that write the words of messages: of one that is appended, or of many at once."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..database.bulk import insert_tuples
from ..database.columns import Id
from ..database.dialect import is_postgres
from ..database.statements import Statement, on_postgres
from .lexemes import is_sample, later_vector_text, number_of, owned_text, parts_of, plain_text, vector_text
from .models import LongMessageTerms, MessageTerms
from .tokenizer import words as words_of

__all__ = ["IndexedMessage", "Terms", "Words", "insert_numbered", "insert_vector", "numbered_of", "prepare_new_words",
           "rewrite", "terms_maker", "vectors_of", "words_of", "write", "write_later", "write_words"]  # fmt: skip

Words = list[str]
"""What `words_of` makes of a content. For a large one that takes 0.3 s, so it comes before any lock: SQLite has one
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


def vectors_of(user_id: str, conversation_id: str, message_id: str, words: Words) -> tuple[str, list[str]]:
    """What `insert_vector` takes as its parameter `vector`; and for a long message what `write_later` takes."""
    first, *later = parts_of(words)
    vector = vector_text(
        user_id, conversation_id, message_id, first, as_sample=is_sample(), is_long=bool(later)
    )
    return vector, [later_vector_text(user_id, conversation_id, part) for part in later]


def numbered_of(conversation_id: str, message_id: str, words: Words) -> dict[str, Any]:
    """What INSERT_NUMBERED takes besides the owner and the message."""
    return {"number": number_of(message_id), "terms": plain_text(conversation_id, words)}


_VECTOR = sa.cast(sa.bindparam("vector", type_=sa.Text()), postgresql.TSVECTOR)


def insert_vector(user_id: Any, message_id: Any, *conditions: Any) -> sa.Insert:
    """For Postgres: insert the words, given as the parameter `vector`, of the message that these columns name where
    the conditions hold; nothing where none is there."""
    return sa.insert(MessageTerms).from_select(
        ("user_id", "message_id", "terms"), sa.select(user_id, message_id, _VECTOR).where(*conditions)
    )


_WRITE_VECTOR = Statement(sa.insert(MessageTerms).values(user_id=_OWNER, message_id=_MESSAGE, terms=_VECTOR))
_NUMBERED = (
    _OWNER,
    _MESSAGE,
    sa.bindparam("number", type_=sa.BigInteger()),
    sa.bindparam("terms", type_=sa.Text()),
)


_HAS_NONE = "AND NOT EXISTS (SELECT 1 FROM message_terms WHERE user_id = :owner AND message_id = :message)"


def insert_numbered(condition: str) -> sa.TextClause:
    """For SQLite: insert the words of a message that has none yet, where the condition holds, `AND …` in SQL."""
    return sa.text(f"{INSERT_NUMBERED} {_HAS_NONE} {condition}").bindparams(*_NUMBERED)


_WRITE_NUMBERED = Statement(sa.text(INSERT_NUMBERED).bindparams(*_NUMBERED))
_WRITE_LATER = Statement(
    sa.text(
        """
        INSERT INTO long_message_terms (user_id, message_id, part, terms)
        SELECT t.user_id, t.message_id, v.part, CAST(v.vector AS tsvector)
        FROM json_array_elements_text(CAST(:vectors AS json)) WITH ORDINALITY AS v (vector, part)
        JOIN message_terms AS t ON t.user_id = :owner AND t.message_id = :message
        """
    ).bindparams(_OWNER, _MESSAGE, sa.bindparam("vectors", type_=sa.Text()))
)
_REMOVE = Statement(
    sa.delete(MessageTerms).where(MessageTerms.user_id == _OWNER, MessageTerms.message_id == _MESSAGE)
)


def write(*, user_id: str, conversation_id: str, message_id: str, words: Words) -> None:
    """Write the words of a message that is there already, in the transaction that inserted it."""
    whose = {"owner": user_id, "message": message_id}
    if on_postgres():
        vector, later = vectors_of(user_id, conversation_id, message_id, words)
        _WRITE_VECTOR.all(**whose, vector=vector)
        for statement, parameters in write_later(user_id, message_id, later):
            statement.all(**parameters)
    else:
        _WRITE_NUMBERED.all(**whose, **numbered_of(conversation_id, message_id, words))


def write_later(user_id: str, message_id: str, vectors: list[str]) -> list[tuple[Statement, dict[str, Any]]]:
    """The statement that writes all but the first vector of a message, if there are any, for its transaction; it does
    nothing where the first one is not there."""
    if not vectors:
        return []
    parameters = {"owner": user_id, "message": message_id, "vectors": orjson.dumps(vectors).decode()}
    return [(_WRITE_LATER, parameters)]


def rewrite(*, user_id: str, conversation_id: str, message_id: str, words: Words) -> None:
    """Write the words of a message whose content has changed, in the transaction that changed it."""
    _REMOVE.all(owner=user_id, message=message_id)
    write(user_id=user_id, conversation_id=conversation_id, message_id=message_id, words=words)


IndexedMessage = tuple[str, str, Words]
"""The id, the conversation's id, and the words of the content."""

_REPLACE_VECTORS = """
    INSERT INTO message_terms (user_id, message_id, terms)
    SELECT CAST(:owner AS uuid), v.id, CAST(v.vector AS tsvector)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:vectors AS text[])) AS v (id, vector)
    ON CONFLICT (user_id, message_id) DO UPDATE SET terms = excluded.terms
"""
_TAKEN_NUMBERS = "SELECT id FROM message_index_docsize WHERE id IN (SELECT value FROM json_each(:numbers))"
_REMOVE_LATER = (
    "DELETE FROM long_message_terms WHERE user_id = :owner AND message_id = ANY(CAST(:ids AS uuid[]))"
)
_REMOVE_NUMBERED = "DELETE FROM message_terms WHERE user_id = :owner AND message_id = :message"


def write_words(connection: sa.Connection, user_id: str, messages: list[IndexedMessage]) -> None:
    """Write the words of a user's messages, which the transaction has locked, in place of those that they had."""
    if is_postgres(connection):
        ids = [message[0] for message in messages]
        connection.execute(sa.text(_REMOVE_LATER), {"owner": user_id, "ids": ids})
        later = _replace_vectors(connection, user_id, messages)
        _write_later_vectors(connection, user_id, later)
    else:
        removed = [{"owner": user_id, "message": message_id} for message_id, *_ in messages]
        connection.execute(sa.text(_REMOVE_NUMBERED), removed)
        numbered = [(id_, _numbered_terms(of, id_, words)) for id_, of, words in messages]
        _Numbered(user_id, numbered).write(connection)


Terms = tuple[Any, Any]
"""The words of a new message as its database takes them: for Postgres the first vector and the later ones, for SQLite
its number and text. An import keeps those of many messages, and as a list of words each would take 6 kB, not 1 to 2."""
NewTerms = tuple[str, Terms]
"""The id of the message, and its terms."""


def terms_maker(user_id: str, conversation_id: str) -> Callable[[str, str], Terms]:
    """What makes the terms of a message of this conversation, of its id and content. It takes time, and no lock."""
    if on_postgres():
        return lambda message_id, content: vectors_of(user_id, conversation_id, message_id, words_of(content))
    return lambda message_id, content: _numbered_terms(conversation_id, message_id, words_of(content))


def _numbered_terms(conversation_id: str, message_id: str, words: Words) -> tuple[int, str]:
    return number_of(message_id), plain_text(conversation_id, words)


def prepare_new_words(user_id: str, messages: list[NewTerms]) -> Callable[[sa.Connection], None]:
    """What writes the words of messages that its transaction has inserted, so that none has any.

    What takes time is done here: SQLite has one writer.
    """
    if on_postgres():
        return partial(_write_new_vectors, user_id=user_id, messages=messages)
    return _Numbered(user_id, messages).write


def _write_new_vectors(connection: sa.Connection, user_id: str, messages: list[NewTerms]) -> None:
    rows = ((user_id, message_id, first) for message_id, (first, _) in messages)
    insert_tuples(connection, MessageTerms, ("user_id", "message_id", "terms"), rows)
    _write_later_vectors(connection, user_id, [(id_, later) for id_, (_, later) in messages if later])


_Later = tuple[str, list[str]]
"""The id of a long message, and all its vectors but the first."""


def _vectors(
    user_id: str, messages: list[IndexedMessage], later: list[_Later]
) -> Iterator[tuple[str, str, str]]:
    """The owner, the message and the first vector of each; `later` gets the others."""
    for message_id, conversation_id, words in messages:
        vector, more = vectors_of(user_id, conversation_id, message_id, words)
        if more:
            later.append((message_id, more))
        yield user_id, message_id, vector


def _replace_vectors(connection: sa.Connection, user_id: str, messages: list[IndexedMessage]) -> list[_Later]:
    later: list[_Later] = []
    rows = list(_vectors(user_id, messages, later))
    parameters = {"owner": user_id, "ids": [row[1] for row in rows], "vectors": [row[2] for row in rows]}
    connection.execute(sa.text(_REPLACE_VECTORS), parameters)
    return later


def _write_later_vectors(connection: sa.Connection, user_id: str, long: list[_Later]) -> None:
    if not long:
        return
    rows = [
        (user_id, message_id, part, vector)
        for message_id, vectors in long
        for part, vector in enumerate(vectors, start=1)
    ]
    insert_tuples(connection, LongMessageTerms, ("user_id", "message_id", "part", "terms"), rows)


class _Numbered:
    """The words of messages on their way into SQLite's index.

    Those whose numbers are free are put into the index all at once, before the rows whose trigger would do it
    (migration 0030): within a trigger FTS5 writes a part of its index for each row, which takes twice as long as all
    the rest. The others are left to INSERT_NUMBERED.
    """

    def __init__(self, user_id: str, messages: list[NewTerms]) -> None:
        self._user_id = user_id
        self._others: list[dict[str, Any]] = []
        self._terms: dict[int, tuple[str, str]] = {}  # message and terms by their number
        for message_id, (number, terms) in messages:
            if number in self._terms:
                self._leave(number, message_id, terms)
            else:
                self._terms[number] = message_id, terms
        self._owned = {number: owned_text(user_id, terms) for number, (_, terms) in self._terms.items()}

    def _leave(self, number: int, message_id: str, terms: str) -> None:
        self._others.append({"owner": self._user_id, "message": message_id, "number": number, "terms": terms})

    def write(self, connection: sa.Connection) -> None:
        """Write them, in a transaction in which none of the messages has any."""
        numbers = orjson.dumps([*self._terms]).decode()
        for (number,) in connection.execute(sa.text(_TAKEN_NUMBERS), {"numbers": numbers}):
            self._leave(number, *self._terms.pop(number))
            del self._owned[number]
        if self._terms:
            insert = "INSERT INTO message_index (rowid, terms) VALUES (?, ?)"
            connection.exec_driver_sql(insert, list(self._owned.items()))
            rows = [(number, self._user_id, *its) for number, its in self._terms.items()]
            insert_tuples(connection, MessageTerms, ("number", "user_id", "message_id", "terms"), rows)
        if self._others:
            connection.execute(sa.text(INSERT_NUMBERED), self._others)
