"""Sorting messages by how much they are about some words: the oftener these stand in a message, the better.

Each further time counts less, and each less in a longer message: on SQLite by BM25 without the part that asks how rare
a word is among all messages (all words are in all of these), on Postgres by its `ts_rank`, which also likes words
that stand close together.
"""

import orjson
import sqlalchemy as sa

from .. import statements
from ..columns import Id
from ..statements import Statement
from .query import Query

# of a message: 1.2 and 0.75 are BM25's usual constants, 400 bytes a usual length
_LENGTH = "1.2 * (0.25 + 0.75 * m.size_bytes / 400.0)"

_ON_SQLITE = f"""
    SELECT message_id FROM (
        SELECT t.message_id, {_LENGTH} AS length, replace(t.terms, ' ', '  ') || ' ' AS terms
        FROM json_each(:ids) AS e
        CROSS JOIN message_terms AS t ON t.user_id = :owner AND t.message_id = e.value
        JOIN messages AS m ON m.user_id = t.user_id AND m.id = t.message_id
    ) ORDER BY (
        SELECT sum(f.times / (f.times + length)) FROM (
            SELECT 1.0 * (length(terms) - length(replace(terms, w.value, ''))) / length(w.value) AS times
            FROM json_each(:words) AS w
        ) AS f
    ) DESC, message_id DESC LIMIT :count
"""  # noqa: S608
# 1: divided by the logarithm of the length (PostgreSQL documentation, section 12.3.3). BM25 in SQL took ten times
# as long
_ON_POSTGRES = """
    SELECT t.message_id FROM message_terms AS t
    WHERE t.user_id = :owner AND t.message_id = ANY(CAST(:ids AS uuid[]))
    ORDER BY ts_rank(t.terms, CAST(:query AS tsquery), 1) DESC, t.message_id DESC LIMIT :count
"""


def _rank(dialect_name: str) -> sa.Executable:
    on_postgres = dialect_name == "postgresql"
    names = ("ids", "query") if on_postgres else ("ids", "words")
    parameters = [sa.bindparam(name, type_=sa.Text()) for name in names]
    query = sa.text(_ON_POSTGRES if on_postgres else _ON_SQLITE)
    return query.bindparams(
        *parameters, sa.bindparam("owner", type_=Id()), sa.bindparam("count", type_=sa.Integer())
    ).columns(message_id=Id())


_RANK = Statement(_rank)


def most_relevant(*, user_id: str, message_ids: list[str], query: Query, count: int) -> list[str]:
    """The `count` messages of these that are most about the words, the best first; of equal ones the newest."""
    if statements.writes_in_one_round_trip():
        parameters = {"ids": array_text(message_ids), "query": query.as_tsquery(user_id)}
    else:
        prefixes = {phrase.terms[-1] for phrase in query.required if phrase.is_prefix}
        words = {
            term for phrase in query.required for term in phrase.terms[: -1 if phrase.is_prefix else None]
        }
        patterns = [*(f" {word} " for word in words), *(f" {prefix}" for prefix in prefixes)]
        parameters = {"ids": orjson.dumps(message_ids).decode(), "words": orjson.dumps(patterns).decode()}
    rows = _RANK.all(owner=user_id, count=count, **parameters)
    return [str(message_id) for (message_id,) in rows]


def array_text(texts: list[str]) -> str:
    """Ids or words as Postgres reads an array; none of them holds a quote or a backslash."""
    return "{" + ",".join(f'"{text}"' for text in texts) + "}"
