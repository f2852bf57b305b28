"""Sorting messages by how much they are about some words: the oftener these stand in a message, the better.

Each further time counts less, and each less in a longer message: on SQLite by BM25 without the part that asks how rare
a word is among all messages (all words are in all of these), on Postgres by its `ts_rank`, which also likes words
that stand close together.
"""

import heapq

import orjson
import sqlalchemy as sa

from ..database.columns import Id
from ..database.dialect import is_postgres
from ..database.session import db
from ..database.statements import Statement
from .query import Query

_TERMS = """
    SELECT t.message_id, t.terms FROM json_each(:ids) AS e
    CROSS JOIN message_terms AS t ON t.user_id = :owner AND t.message_id = e.value
"""
# 1: divided by the logarithm of the length (PostgreSQL documentation, section 12.3.3). BM25 in SQL took ten
# times as long
_RANKED = """
    SELECT t.message_id FROM message_terms AS t
    WHERE t.user_id = :owner AND t.message_id = ANY(CAST(:ids AS uuid[]))
    ORDER BY ts_rank(t.terms, CAST(:query AS tsquery), 1) DESC, t.message_id DESC LIMIT :count
"""


_OWNER, _IDS = sa.bindparam("owner", type_=Id()), sa.bindparam("ids", type_=sa.Text())
_READ_TERMS = Statement(sa.text(_TERMS).bindparams(_OWNER, _IDS).columns(message_id=Id(), terms=sa.Text()))
_RANK = Statement(
    sa.text(_RANKED)
    .bindparams(
        _OWNER, _IDS, sa.bindparam("query", type_=sa.Text()), sa.bindparam("count", type_=sa.Integer())
    )
    .columns(message_id=Id())
)


def most_relevant(*, user_id: str, message_ids: list[str], query: Query, count: int) -> list[str]:
    """The `count` messages of these that are most about the words, the best first; of equal ones the newest."""
    if not is_postgres(db.engine):
        rows = _READ_TERMS.all(owner=user_id, ids=ids_parameter(message_ids))
        weights = [(_weight(query, terms), message_id) for message_id, terms in rows]
        return [message_id for _, message_id in heapq.nlargest(count, weights)]
    tsquery = query.as_tsquery(user_id)
    ranked = _RANK.all(owner=user_id, count=count, ids=ids_parameter(message_ids), query=tsquery)
    return [str(message_id) for (message_id,) in ranked]


def _weight(query: Query, terms: str) -> float:
    """BM25 of one message, with its usual constants 1.2 and 0.75, and 60 words as the usual length."""
    found = terms.split(" ")
    length = 1.2 * (0.25 + 0.75 * len(found) / 60)
    weight = 0.0
    for phrase in query.required:
        for place, term in enumerate(phrase.terms, start=1):
            if phrase.is_prefix and place == len(phrase.terms):
                times = sum(word.startswith(term) for word in found)
            else:
                times = found.count(term)
            weight += times / (times + length)
    return weight


def ids_parameter(message_ids: list[str]) -> str:
    """A list of ids as a statement takes it: an array on Postgres, JSON on SQLite."""
    if is_postgres(db.engine):
        return "{" + ",".join(message_ids) + "}"
    return orjson.dumps(message_ids).decode()
