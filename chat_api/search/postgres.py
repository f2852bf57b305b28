"""Finds the newest messages that match on Postgres.

A GIN index gives all matches of a query at once, in no order, so a common word would cost what all messages with it
cost. Hence three steps, of which each may be the last:

1. The newest few hundred messages are looked at, one by one: enough for words that are common in them.
2. Of the samples, one message of 512 (`search_index.lexemes`), those with the words are found. They cut the ids into
   spans, each with about 512 messages that have the words, however words and messages are spread.
3. The index is queried for one span after the other, from the newest on: a span is an intersection with the slices
   of ids that it lies in.

No step depends on what the planner knows or guesses. Where positions of words matter ("phrases"), the rows of a span
are read to see these, and may all be in vain; so a search that takes long ends with what it has, and says where to go
on. A prefix is merged from all its words by the index; where that takes too long, messages are looked at one by one.

Long messages, whose words are in several rows, are found by themselves (`long_messages`).
"""

import time
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ..database.columns import Id
from ..search_index.lexemes import LONG, SAMPLE, SAMPLED, SLICE_DIGITS, owner_code, slice_lexeme
from .candidates import (
    FIRST_ID,
    LAST_ID,
    PATIENCE_S,
    Candidates,
    IndexQuery,
    id_before,
    merged,
    newest_before,
    scan,
)
from .long_messages import find_newest_long, has_long_messages
from .written_out import OWNER, statement_of_ids

NEAR = 400  # messages that are looked at in one batch: about 1 ms
_MOST_SLICES = 64  # of the longest ones: 140 years of ids of version 7
_SHORTEST, _LONGEST = SLICE_DIGITS[0], SLICE_DIGITS[-1]


# The rows are named by a comparison, and the user's picked out afterwards: of an equation the planner would expect few
# rows, so that reading all of them and sorting were cheaper than walking the index backwards.
_BATCH = statement_of_ids(
    f"""
    SELECT message_id, terms @@ CAST(:query AS tsquery) AS is_match FROM (
        SELECT user_id, message_id, terms FROM message_terms
        WHERE {OWNER} (user_id, message_id) <= (:user_id, :newest)
        ORDER BY user_id DESC, message_id DESC LIMIT :count
    ) AS near
    WHERE user_id = :user_id ORDER BY user_id DESC, message_id DESC
    """,  # noqa: S608
    user_id=Id(), newest=Id(), query=sa.Text(), count=sa.Integer(),
)  # fmt: skip
# The IS TRUE here and below keeps the planner from adding the primary key to the scan. It doesn't know who has a
# million messages, and reading all their entries there takes a hundred times as long as the rest. With Citus it may
# (OWNER), as asking all nodes takes longer still.
# The samples with the words, but for prefixes: these are looked for in the samples themselves, as the index would
# gather all words that begin so. And the ends of all spans: the user's newest message and the oldest.
_SAMPLES = statement_of_ids(
    f"""
    WITH samples AS MATERIALIZED (
        SELECT message_id, terms FROM message_terms
        WHERE terms @@ CAST(:samples AS tsquery) AND {OWNER} (user_id = :user_id AND message_id <= :newest) IS TRUE
    )
    SELECT message_id FROM samples WHERE terms @@ CAST(:words AS tsquery)
    UNION ALL (
        SELECT message_id FROM message_terms WHERE user_id = :user_id AND message_id <= :newest
        ORDER BY message_id DESC LIMIT 1
    )
    UNION ALL (
        SELECT message_id FROM message_terms WHERE user_id = :user_id AND message_id <= :newest
        ORDER BY message_id LIMIT 1
    )
    """,  # noqa: S608
    user_id=Id(), newest=Id(), samples=sa.Text(), words=sa.Text(),
)  # fmt: skip
# Two conditions, not one with an AND in it: so the index jumps from a match of either to the next one of the other.
_BY_INDEX = statement_of_ids(
    f"""
    SELECT message_id FROM message_terms
    WHERE terms @@ CAST(:query AS tsquery) AND terms @@ CAST(:slices AS tsquery)
    AND {OWNER} (user_id = :user_id AND message_id BETWEEN :oldest AND :newest) IS TRUE
    ORDER BY message_id DESC LIMIT :count
    """,  # noqa: S608
    user_id=Id(), oldest=Id(), newest=Id(), query=sa.Text(), slices=sa.Text(), count=sa.Integer(),
)  # fmt: skip


def find_newest(index_query: IndexQuery) -> Candidates:
    """The newest messages that match. There may be fewer, even none, where `resume_before` is set."""
    if index_query.before == FIRST_ID:
        return Candidates([])
    if not has_long_messages(index_query.user_id):
        return _find_newest(index_query)
    others = _find_newest(replace(index_query, skips_long=True))
    return merged(others, find_newest_long(index_query), count=index_query.count)


def _find_newest(index_query: IndexQuery) -> Candidates:
    deadline = time.monotonic() + PATIENCE_S
    before, count = index_query.start, index_query.count
    batch = partial(_batch, index_query)
    if count < NEAR:
        near = batch(before, NEAR, PATIENCE_S) or []
        matches = [message_id for message_id, is_match in near if is_match][:count]
        if len(matches) == count:
            return Candidates(matches)
    newest, *ends = _ends_of_spans(index_query, newest_before(before)) or [FIRST_ID]
    found: list[str] = []
    while ends:
        left = count - len(found)
        at_once = 1 + left // SAMPLED
        oldest, ends = ends[:at_once][-1], ends[at_once:]
        matches_in_span = _search_span(index_query, oldest, newest, left)
        if matches_in_span is None:  # too large for the index, whatever the span
            return _scan_rest(batch, found, before=_after(newest), count=count)
        found += matches_in_span
        if len(found) == count:
            break
        if ends and time.monotonic() > deadline:
            return Candidates(found, resume_before=oldest)
        newest = id_before(oldest)
    return Candidates(found)


def _scan_rest(batch: Any, found: list[str], *, before: str, count: int) -> Candidates:
    deadline = time.monotonic() + PATIENCE_S / 2
    rest = scan(batch, before=before, count=count - len(found), rows=NEAR, deadline=deadline)
    return Candidates(found + rest.ids, resume_before=rest.resume_before)


def _batch(
    index_query: IndexQuery, before: str, count: int, timeout_s: float
) -> list[tuple[str, bool]] | None:
    if before == FIRST_ID:
        return []
    query = _tsquery(index_query)
    scope = {"user_id": index_query.user_id, "newest": newest_before(before)}
    rows = _BATCH.all_within(timeout_s, **scope, query=query, count=count)
    return None if rows is None else [(str(message_id), is_match) for message_id, is_match in rows]


def _tsquery(index_query: IndexQuery) -> str:
    query = index_query.query.as_tsquery(index_query.user_id, also=index_query.also)
    return f"{query} & !'{owner_code(index_query.user_id)}{LONG}'" if index_query.skips_long else query


def _after(message_id: str) -> str:
    return LAST_ID if message_id == LAST_ID else str(UUID(int=UUID(message_id).int + 1))


def _ends_of_spans(index_query: IndexQuery, newest: str) -> list[str]:
    """Ids, falling: where the first span begins, then where each one ends. None if there is no message."""
    user_id, query = index_query.user_id, index_query.query
    samples = query.as_tsquery_of_words(user_id, also=(SAMPLE, *index_query.also), has_prefixes=False)
    words = query.as_tsquery_of_words(user_id, also=index_query.also)
    rows = _SAMPLES.all(user_id=user_id, newest=newest, samples=samples, words=words)
    ends = sorted({str(message_id) for (message_id,) in rows}, reverse=True)
    return ends * 2 if len(ends) == 1 else ends


def _search_span(index_query: IndexQuery, oldest: str, newest: str, count: int) -> list[str] | None:
    """The newest matches of a span; None where the index takes too long."""
    user_id, query = index_query.user_id, index_query.query
    code = owner_code(user_id)
    slices = " | ".join(f"'{code}{slice_lexeme(digits)}'" for digits in _slices_between(oldest, newest))
    rows = _BY_INDEX.all_within(
        PATIENCE_S,
        user_id=user_id,
        oldest=oldest,
        newest=newest,
        query=_tsquery(index_query),
        slices=slices or query.as_tsquery_of_words(user_id),
        count=count,
    )
    return None if rows is None else [str(message_id) for (message_id,) in rows]


def _slices_between(oldest: str, newest: str) -> list[str]:
    """The fewest slices that cover a span of ids, and little more at its ends; none if still too many."""
    first, end = int(oldest[:_LONGEST], 16), int(newest[:_LONGEST], 16) + 1
    slices = []
    for digits in range(_LONGEST, _SHORTEST, -1):
        while first % 16 and first < end:
            slices.append(f"{first:0{digits}x}")
            first += 1
        while end % 16 and first < end:
            end -= 1
            slices.append(f"{end:0{digits}x}")
        first, end = first // 16, end // 16
    if end - first > _MOST_SLICES:
        return []
    return slices + [f"{number:0{_SHORTEST}x}" for number in range(first, end)]
