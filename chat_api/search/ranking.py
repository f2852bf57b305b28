"""Ranks messages by relevance: the more often the words occur, the higher.

Each further occurrence counts less, and each less in a longer message: on SQLite by BM25 without the part about how
rare a word is among all messages (all words are in all of these), on Postgres by its `ts_rank`, which also prefers
words that stand close together.
"""

import heapq
from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson
import sqlalchemy as sa

from ..database.columns import Id
from ..database.dialect import is_postgres
from ..database.parameters import USER_ID, given
from ..database.session import db
from ..database.statements import Statement
from .query import Query

RANKED_BYTES = 8 * 1024 * 1024  # of words that are read to rank messages; older ones are left out
_TERMS = """
    SELECT t.message_id, t.terms FROM json_each(:ids) AS e
    CROSS JOIN message_terms AS t ON t.user_id = :user_id AND t.message_id = e.value
"""
# 1: divided by the logarithm of the length (PostgreSQL documentation, section 12.3.3). BM25 in SQL took ten
# times as long. The size is taken without reading the words.
# A long message has several rows, and counts as its best one does.
_RANKED = f"""
    SELECT message_id FROM (
        SELECT message_id, terms,
            sum(pg_column_size(terms)) OVER (ORDER BY message_id DESC, part) - pg_column_size(terms) AS bytes_before
        FROM (
            SELECT message_id, 0 AS part, terms FROM message_terms
            WHERE user_id = :user_id AND message_id = ANY(CAST(:ids AS uuid[]))
            UNION ALL
            SELECT message_id, part, terms FROM long_message_terms
            WHERE user_id = :user_id AND message_id = ANY(CAST(:ids AS uuid[]))
        ) AS stored
    ) AS newest WHERE bytes_before < {RANKED_BYTES}
    GROUP BY message_id
    ORDER BY max(ts_rank(terms, CAST(:query AS tsquery), 1)) DESC, message_id DESC LIMIT :count
"""  # noqa: S608


_IDS = given("ids", sa.Text())
_READ_TERMS = Statement(sa.text(_TERMS).bindparams(USER_ID, _IDS).columns(message_id=Id(), terms=sa.Text()))
_RANK = Statement(
    sa.text(_RANKED)
    .bindparams(USER_ID, _IDS, given("query", sa.Text()), given("count", sa.Integer()))
    .columns(message_id=Id())
)


def most_relevant(*, user_id: str, message_ids: list[str], query: Query, count: int) -> list[str]:
    """The `count` most relevant of these messages, best first, and of equal ones the newest."""
    ids = ids_parameter(message_ids)
    if not is_postgres(db.engine):
        weights = _READ_TERMS.read(lambda rows: _weights(query, rows), user_id=user_id, ids=ids)
        return [message_id for _, message_id in heapq.nlargest(count, weights)]
    ranked = _RANK.all(user_id=user_id, count=count, ids=ids, query=query.as_tsquery(user_id))
    return [str(message_id) for (message_id,) in ranked]


def _weights(query: Query, rows: Iterable[Any]) -> list[tuple[float, str]]:
    """The weight of each message, as far as RANKED_BYTES go."""
    weights: list[tuple[float, str]] = []
    size_bytes = 0
    for message_id, terms in rows:
        weights.append((_weight(query, terms), message_id))
        size_bytes += len(terms)
        if size_bytes > RANKED_BYTES:
            break
    return weights


def _weight(query: Query, terms: str) -> float:
    """BM25 of one message, with its usual constants 1.2 and 0.75, and 60 words as the usual length."""
    found = terms.split(" ")
    times = Counter(found)
    length = 1.2 * (0.25 + 0.75 * len(found) / 60)
    weight = 0.0
    for phrase in query.required:
        for position, term in enumerate(phrase.terms, start=1):
            if phrase.is_prefix and position == len(phrase.terms):
                occurrences = sum(number for word, number in times.items() if word.startswith(term))
            else:
                occurrences = times[term]
            weight += occurrences / (occurrences + length)
    return weight


def ids_parameter(message_ids: list[str]) -> str:
    """A list of ids as a statement takes it: an array on Postgres, JSON on SQLite."""
    if is_postgres(db.engine):
        return "{" + ",".join(message_ids) + "}"
    return orjson.dumps(message_ids).decode()
