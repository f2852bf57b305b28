"""The statements that write a message's words, for whoever appends messages."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from .. import statements
from ..columns import Id
from ..statements import Statement
from .lexemes import STEP, number_of, plain_text, vector_text
from .models import MessageTerms
from .words import words

_INDEX = "message_index_docsize"  # of FTS5: a row for each that it has (SQLite documentation, fts5.html section 10)
_OWNER, _MESSAGE = sa.bindparam("owner", type_=Id()), sa.bindparam("message", type_=Id())


def vector_of(user_id: str, conversation_id: str, message_id: str, content: str) -> str:
    """What `insert_vector` takes as its parameter `vector`."""
    return vector_text(user_id, conversation_id, message_id, words(content))


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


def _insert_numbered() -> sa.Insert:
    """Two messages of a millisecond may want the same number; the later one moves to the next free one."""
    first = sa.bindparam("number_", type_=sa.BigInteger()).label("number")
    number = sa.select(first, sa.literal_column("1").label("tries")).cte("free", recursive=True)
    taken = sa.table(_INDEX, sa.column("id", sa.BigInteger()))
    free = number.union_all(
        sa.select(number.c.number + sa.literal_column(STEP), number.c.tries + 1).where(
            sa.exists().where(taken.c.id == number.c.number)
        )
    )
    return sa.insert(MessageTerms).from_select(
        ("user_id", "message_id", "number", "terms"),
        sa.select(_OWNER, _MESSAGE, sa.func.max(free.c.number), sa.bindparam("terms_", type_=sa.Text())),
    )


_WRITE_VECTOR = Statement(_insert_vector(_OWNER, _MESSAGE))
_WRITE_NUMBERED = Statement(_insert_numbered())
_REMOVE = Statement(
    sa.delete(MessageTerms).where(MessageTerms.user_id == _OWNER, MessageTerms.message_id == _MESSAGE)
)


def write(*, user_id: str, conversation_id: str, message_id: str, content: str) -> None:
    """Write the words of a message that is there already, in the transaction that inserted it."""
    whose = {"owner": user_id, "message": message_id}
    if statements.writes_in_one_round_trip():
        vector = vector_of(user_id, conversation_id, message_id, content)
        _WRITE_VECTOR.all(**whose, vector=vector)
    else:
        text = plain_text(conversation_id, words(content))
        _WRITE_NUMBERED.all(**whose, number_=number_of(message_id), terms_=text)


def rewrite(*, user_id: str, conversation_id: str, message_id: str, content: str) -> None:
    """Write the words of a message whose content has changed, in the transaction that changed it."""
    _REMOVE.all(owner=user_id, message=message_id)
    write(user_id=user_id, conversation_id=conversation_id, message_id=message_id, content=content)
