"""Sorting messages by how much they are about some words, by one measure for both databases.

It is BM25 without the part that asks how rare a word is among all messages: each word counts the more the oftener it
stands in a message, with less and less gain, and less in a longer message. All words are in all of these messages.
"""

import orjson
import sqlalchemy as sa

from .. import statements
from ..columns import Id
from ..statements import Statement
from ..terms.lexemes import owner_code
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
_ON_POSTGRES = f"""
    SELECT message_id FROM (
        SELECT t.message_id, (
            SELECT sum(f.times / (f.times + {_LENGTH})) FROM (
                SELECT cast(sum(cardinality(l.positions)) AS double precision) AS times
                FROM unnest(t.terms) AS l
                WHERE l.lexeme = ANY(CAST(:words AS text[])) OR l.lexeme ^@ ANY(CAST(:prefixes AS text[]))
                GROUP BY CASE WHEN l.lexeme = ANY(CAST(:words AS text[])) THEN l.lexeme END
            ) AS f
        ) AS score
        FROM message_terms AS t
        JOIN messages AS m ON m.user_id = t.user_id AND m.id = t.message_id
        WHERE t.user_id = :owner AND t.message_id = ANY(CAST(:ids AS uuid[]))
    ) AS scored ORDER BY score DESC, message_id DESC LIMIT :count
"""  # noqa: S608


def _rank(dialect_name: str) -> sa.Executable:
    on_postgres = dialect_name == "postgresql"
    names = ("ids", "words", "prefixes") if on_postgres else ("ids", "words")
    parameters = [sa.bindparam(name, type_=sa.Text()) for name in names]
    query = sa.text(_ON_POSTGRES if on_postgres else _ON_SQLITE)
    return query.bindparams(
        *parameters, sa.bindparam("owner", type_=Id()), sa.bindparam("count", type_=sa.Integer())
    ).columns(message_id=Id())


_RANK = Statement(_rank)


def most_relevant(*, user_id: str, message_ids: list[str], query: Query, count: int) -> list[str]:
    """The `count` messages of these that are most about the words, the best first; of equal ones the newest."""
    prefixes = {phrase.terms[-1] for phrase in query.required if phrase.is_prefix}
    words = {term for phrase in query.required for term in phrase.terms[: -1 if phrase.is_prefix else None]}
    if statements.writes_in_one_round_trip():
        code = owner_code(user_id)
        parameters = {
            "ids": array_text(message_ids),
            "words": array_text([code + word for word in words]),
            "prefixes": array_text([code + prefix for prefix in prefixes]),
        }
    else:
        patterns = [*(f" {word} " for word in words), *(f" {prefix}" for prefix in prefixes)]
        parameters = {"ids": orjson.dumps(message_ids).decode(), "words": orjson.dumps(patterns).decode()}
    rows = _RANK.all(owner=user_id, count=count, **parameters)
    return [str(message_id) for (message_id,) in rows]


def array_text(texts: list[str]) -> str:
    """Ids or words as Postgres reads an array; none of them holds a quote or a backslash."""
    return "{" + ",".join(f'"{text}"' for text in texts) + "}"
