"""Finds the newest long messages that match on Postgres: those whose words are in several rows.

Each phrase of a query is whole in one of these rows, and the words of a query may be in different ones. So the index
is queried for each phrase, and the messages that have all of them are found; where that takes too long, long messages
are looked at one by one, newest first, as far as there is time.
"""

import time

import orjson
import sqlalchemy as sa

from ..database.columns import Id
from ..search_index.lexemes import LONG, owner_code
from .candidates import PATIENCE_S, Candidates, IndexQuery, newest_before, scan
from .written_out import OWNER, statement_of_ids

AT_ONCE = 32  # messages that are looked at in one batch


_REQUIRED = "json_array_elements_text(CAST(:required AS json)) AS r (q)"
_EXCLUDED = "json_array_elements_text(CAST(:excluded AS json)) AS x (q)"
_EXISTS = statement_of_ids(
    "SELECT message_id FROM long_message_terms WHERE user_id = :user_id LIMIT 1", user_id=Id()
)


def _is_in(queries: str, message_id: str) -> str:
    """Whether a query q is in some row of a message. IS TRUE keeps the planner from the index of words."""
    return f"""(
        EXISTS (
            SELECT 1 FROM message_terms AS t WHERE t.user_id = :user_id AND t.message_id = {message_id}
            AND (t.terms @@ CAST({queries} AS tsquery)) IS TRUE
        ) OR EXISTS (
            SELECT 1 FROM long_message_terms AS p WHERE p.user_id = :user_id AND p.message_id = {message_id}
            AND (p.terms @@ CAST({queries} AS tsquery)) IS TRUE
        )
    )"""  # noqa: S608


_BATCH = statement_of_ids(
    f"""
    SELECT message_id,
        NOT EXISTS (SELECT 1 FROM {_REQUIRED} WHERE NOT {_is_in("r.q", "near.message_id")})
        AND NOT EXISTS (SELECT 1 FROM {_EXCLUDED} WHERE {_is_in("x.q", "near.message_id")})
    FROM (
        SELECT user_id, message_id FROM long_message_terms
        WHERE {OWNER} (user_id, message_id) <= (:user_id, :newest) AND part = 1
        ORDER BY user_id DESC, message_id DESC LIMIT :count
    ) AS near
    WHERE user_id = :user_id ORDER BY user_id DESC, message_id DESC
    """,  # noqa: S608
    user_id=Id(), newest=Id(), required=sa.Text(), excluded=sa.Text(), count=sa.Integer(),
)  # fmt: skip
# as in `postgres`, IS TRUE keeps the planner from adding the primary key to the scan
_BY_INDEX = statement_of_ids(
    f"""
    SELECT message_id FROM (
        SELECT found.message_id FROM {_REQUIRED} CROSS JOIN LATERAL (
            SELECT message_id FROM message_terms
            WHERE terms @@ (CAST(r.q AS tsquery) && CAST(:long AS tsquery))
            AND {OWNER} (user_id = :user_id AND message_id <= :newest) IS TRUE
            UNION
            SELECT message_id FROM long_message_terms
            WHERE terms @@ CAST(r.q AS tsquery) AND {OWNER} (user_id = :user_id AND message_id <= :newest) IS TRUE
        ) AS found
        GROUP BY found.message_id HAVING count(*) = json_array_length(CAST(:required AS json))
    ) AS whole
    WHERE NOT EXISTS (SELECT 1 FROM {_EXCLUDED} WHERE {_is_in("x.q", "whole.message_id")})
    ORDER BY message_id DESC LIMIT :count
    """,  # noqa: S608
    user_id=Id(), newest=Id(), required=sa.Text(), excluded=sa.Text(), long=sa.Text(), count=sa.Integer(),
)  # fmt: skip


def has_long_messages(user_id: str) -> bool:
    """Whether the user has any."""
    return _EXISTS.first(user_id=user_id) is not None


def find_newest_long(index_query: IndexQuery) -> Candidates:
    """The newest long messages that match. There may be fewer, even none, where `resume_before` is set."""
    user_id, count = index_query.user_id, index_query.count
    required, excluded = index_query.query.as_tsqueries(user_id, also=index_query.also)
    queries = {
        "user_id": user_id,
        "required": orjson.dumps(required).decode(),
        "excluded": orjson.dumps(excluded).decode(),
    }
    before = index_query.start
    long = f"'{owner_code(user_id)}{LONG}'"
    rows = _BY_INDEX.all_within(PATIENCE_S, **queries, newest=newest_before(before), long=long, count=count)
    if rows is not None:
        return Candidates([str(message_id) for (message_id,) in rows])

    def batch(before: str, rows: int, timeout_s: float) -> list[tuple[str, bool]] | None:
        found = _BATCH.all_within(timeout_s, **queries, newest=newest_before(before), count=rows)
        return None if found is None else [(str(message_id), is_match) for message_id, is_match in found]

    deadline = time.monotonic() + PATIENCE_S / 2
    return scan(batch, before=before, count=count, rows=AT_ONCE, deadline=deadline)
