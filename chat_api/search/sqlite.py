"""Finds the newest messages that match on SQLite.

FTS5 reads backwards in the order of its rowids, and these follow the ids (`search_index.lexemes`): it stops when the
page is full. A prefix has to be merged from all its words first; where these are common, the newest messages have one
of them, so those are looked at before. A query that keeps FTS5 busy all the same, as a phrase of common words that are
never next to each other does, is ended, and messages are looked at one by one instead, as many as there is time for.
"""

import time
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa

from ..database.columns import Id
from ..database.parameters import USER_ID, given
from ..database.statements import Statement
from ..search_index.lexemes import number_of
from .candidates import LAST_ID, PATIENCE_S, Candidates, IndexQuery, scan
from .query import Phrase

NEAR = 1000  # messages that are looked at in one batch: about 2 ms


def _ids(sql: str, *parameters: sa.BindParameter[Any], **columns: Any) -> Statement:
    """A statement that is written out, with ids of messages in its rows."""
    shared = (USER_ID, given("before"), given("number", sa.BigInteger()), given("count", sa.Integer()))
    return Statement(sa.text(sql).bindparams(*shared, *parameters).columns(message_id=Id(), **columns))


_BELOW = (
    "coalesce((SELECT number FROM message_terms WHERE user_id = :user_id AND message_id = :before), :number)"
)
_BY_INDEX = _ids(
    f"""
    SELECT t.message_id FROM message_index AS i
    CROSS JOIN message_terms AS t ON t.user_id = :user_id AND t.number = i.rowid
    WHERE i.message_index MATCH :query AND i.rowid < {_BELOW}
    ORDER BY i.rowid DESC LIMIT :count
    """,  # noqa: S608
    given("query", sa.Text()),
)
_BATCH = _ids(
    f"""
    SELECT message_id, NOT EXISTS (SELECT 1 FROM json_each(:required) WHERE instr(terms, value) = 0)
        AND NOT EXISTS (SELECT 1 FROM json_each(:excluded) WHERE instr(terms, value) > 0) AS is_match
    FROM (
        SELECT message_id, terms || ' ' AS terms FROM message_terms
        WHERE user_id = :user_id AND number < {_BELOW} ORDER BY number DESC LIMIT :count
    )
    """,  # noqa: S608
    given("required", sa.Text()),
    given("excluded", sa.Text()),
    is_match=sa.Boolean(),
)


def find_newest(index_query: IndexQuery) -> Candidates:
    """The newest messages that match. There may be fewer, even none, where `resume_before` is set."""
    deadline = time.monotonic() + PATIENCE_S
    before, query = index_query.before or LAST_ID, index_query.query
    batch = partial(_batch, index_query.user_id, _texts(index_query))
    if query.has_prefix and index_query.count <= NEAR:
        near = batch(before, NEAR, PATIENCE_S) or []
        matches = [message_id for message_id, is_match in near if is_match][: index_query.count]
        if len(matches) == index_query.count:
            return Candidates(matches)
    rows = _BY_INDEX.all_within(
        PATIENCE_S,
        query=query.as_fts5(index_query.user_id, also=index_query.also),
        count=index_query.count,
        **_start(index_query.user_id, index_query.before),
    )
    if rows is not None:
        return Candidates([message_id for (message_id,) in rows])
    deadline = max(deadline, time.monotonic() + PATIENCE_S / 2)
    return scan(batch, before=before, count=index_query.count, rows=NEAR, deadline=deadline)


def _batch(
    user_id: str, texts: dict[str, str], before: str, count: int, timeout_s: float
) -> list[tuple[str, bool]] | None:
    start = _start(user_id, None if before == LAST_ID else before)
    rows = _BATCH.all_within(timeout_s, count=count, **start, **texts)
    return None if rows is None else [(message_id, bool(is_match)) for message_id, is_match in rows]


def _start(user_id: str, before: str | None) -> dict[str, Any]:
    """The parameters of a statement that begins before a message: by its number, or by what it would have been."""
    return {"user_id": user_id, "before": before, "number": number_of(before) if before else 2**63 - 1}


def _texts(index_query: IndexQuery) -> dict[str, str]:
    """What a message's terms must contain, and must not."""
    required = [
        *(f" {lexeme} " for lexeme in index_query.also),
        *map(_text, index_query.query.required),
    ]
    excluded = list(map(_text, index_query.query.excluded))
    return {"required": orjson.dumps(required).decode(), "excluded": orjson.dumps(excluded).decode()}


def _text(phrase: Phrase) -> str:
    """A phrase as it stands in the terms, between spaces."""
    return f" {' '.join(phrase.terms)}{'' if phrase.is_prefix else ' '}"
