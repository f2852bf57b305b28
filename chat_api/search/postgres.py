"""Finding the newest messages with given words on Postgres.

A GIN index gives all matches of a query at once, in no order, so a common word would cost what all messages with it
cost. Hence three steps, of which each may be the last:

1. The newest few hundred messages are looked at, one by one: enough for words that are common nowadays.
2. Of the samples, one message of 512 (`terms.lexemes`), those with the words are found. They cut the ids into spans,
   each with about 512 messages that have the words, however words and messages are spread.
3. The index is asked about one span after the other, from the newest on: a span is an intersection with the slices
   of ids that it lies in.

No step depends on what the planner knows or guesses. Where places of words matter ("phrases"), the rows of a span are
read to see these, and may all be in vain; so a search that takes long ends with what it has, and says where to go on.
"""

import time
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from ..database.columns import Id
from ..database.statements import Statement
from ..search_index.lexemes import SAMPLE, SAMPLED, SLICE_DIGITS, owner_code, slice_lexeme
from .candidates import Candidates, IndexQuery

NEAR = 400  # messages of the first step: about 1 ms
PATIENCE_S = 0.1  # to go on to a further span; a span of a phrase takes about 2 ms
_MOST_SLICES = 64  # of the longest ones: 140 years of ids of version 7
_SHORTEST, _LONGEST = SLICE_DIGITS[0], SLICE_DIGITS[-1]
_FIRST, _LAST = str(UUID(int=0)), str(UUID(int=2**128 - 1))


def _ids(sql: str, **kinds: Any) -> Statement:
    """A statement that is written out, with ids of messages as its rows."""
    parameters = [sa.bindparam(name, type_=kind) for name, kind in kinds.items()]
    return Statement(sa.text(sql).bindparams(*parameters).columns(message_id=Id()))


# The rows are named by a comparison, and the user's picked out afterwards: of an equation the planner would think that
# it leaves few rows, so that reading all of them and sorting were cheaper than walking the index backwards.
_BY_LOOKING = _ids(
    f"""
    SELECT message_id FROM (
        SELECT user_id, message_id, terms FROM message_terms
        WHERE (user_id, message_id) <= (:owner, :newest)
        ORDER BY user_id DESC, message_id DESC LIMIT {NEAR}
    ) AS near
    WHERE user_id = :owner AND terms @@ CAST(:query AS tsquery)
    ORDER BY user_id DESC, message_id DESC LIMIT :count
    """,  # noqa: S608
    owner=Id(), newest=Id(), query=sa.Text(), count=sa.Integer(),
)  # fmt: skip
# The IS TRUE here and below keeps the planner from adding the primary key to the scan. It doesn't know who has a
# million messages, and reading all their entries there takes a hundred times as long as the rest.
# The samples with the words, but for prefixes: these are looked for in the samples themselves, as the index would
# gather all words that begin so. And the ends of all spans: the user's newest message and the oldest.
_SAMPLES = _ids(
    """
    WITH samples AS MATERIALIZED (
        SELECT message_id, terms FROM message_terms
        WHERE terms @@ CAST(:samples AS tsquery) AND (user_id = :owner AND message_id <= :newest) IS TRUE
    )
    SELECT message_id FROM samples WHERE terms @@ CAST(:words AS tsquery)
    UNION ALL (
        SELECT message_id FROM message_terms WHERE user_id = :owner AND message_id <= :newest
        ORDER BY message_id DESC LIMIT 1
    )
    UNION ALL (
        SELECT message_id FROM message_terms WHERE user_id = :owner AND message_id <= :newest
        ORDER BY message_id LIMIT 1
    )
    """,
    owner=Id(), newest=Id(), samples=sa.Text(), words=sa.Text(),
)  # fmt: skip
# Two conditions, not one with an AND in it: so the index jumps from a match of either to the next one of the other.
_BY_INDEX = _ids(
    """
    SELECT message_id FROM message_terms
    WHERE terms @@ CAST(:query AS tsquery) AND terms @@ CAST(:slices AS tsquery)
    AND (user_id = :owner AND message_id BETWEEN :oldest AND :newest) IS TRUE
    ORDER BY message_id DESC LIMIT :count
    """,
    owner=Id(), oldest=Id(), newest=Id(), query=sa.Text(), slices=sa.Text(), count=sa.Integer(),
)  # fmt: skip


def find_newest(wanted: IndexQuery) -> Candidates:
    """The newest messages that are wanted. There may be fewer, even none, where `resume_before` is set."""
    gives_up_at = time.monotonic() + PATIENCE_S
    if wanted.before == _FIRST:
        return Candidates([])
    newest = _LAST if wanted.before is None else _id_in_front_of(wanted.before)
    if wanted.count < NEAR:
        near = _look_at_newest(wanted, newest)
        if len(near) == wanted.count:
            return Candidates(near)
    newest, *ends = _ends_of_spans(wanted, newest) or [_FIRST]
    found: list[str] = []
    while ends:
        left = wanted.count - len(found)
        at_once = 1 + left // SAMPLED
        oldest, ends = ends[:at_once][-1], ends[at_once:]
        found += _look_into_span(wanted, oldest, newest, left)
        if len(found) == wanted.count:
            break
        if ends and time.monotonic() > gives_up_at:
            return Candidates(found, resume_before=oldest)
        newest = _id_in_front_of(oldest)
    return Candidates(found)


def _look_at_newest(wanted: IndexQuery, newest: str) -> list[str]:
    query = wanted.query.as_tsquery(wanted.user_id, also=wanted.also)
    rows = _BY_LOOKING.all(owner=wanted.user_id, newest=newest, query=query, count=wanted.count)
    return [str(message_id) for (message_id,) in rows]


def _ends_of_spans(wanted: IndexQuery, newest: str) -> list[str]:
    """Ids, falling: where the first span begins, then where each one ends. None if there is no message."""
    query = wanted.query
    samples = query.as_tsquery_of_words(wanted.user_id, also=(SAMPLE, *wanted.also), has_prefixes=False)
    words = query.as_tsquery_of_words(wanted.user_id, also=wanted.also)
    rows = _SAMPLES.all(owner=wanted.user_id, newest=newest, samples=samples, words=words)
    ends = sorted({str(message_id) for (message_id,) in rows}, reverse=True)
    return ends * 2 if len(ends) == 1 else ends


def _look_into_span(wanted: IndexQuery, oldest: str, newest: str, count: int) -> list[str]:
    code = owner_code(wanted.user_id)
    slices = " | ".join(f"'{code}{slice_lexeme(digits)}'" for digits in _slices_between(oldest, newest))
    rows = _BY_INDEX.all(
        owner=wanted.user_id,
        oldest=oldest,
        newest=newest,
        query=wanted.query.as_tsquery(wanted.user_id, also=wanted.also),
        slices=slices or wanted.query.as_tsquery_of_words(wanted.user_id),
        count=count,
    )
    return [str(message_id) for (message_id,) in rows]


def _slices_between(oldest: str, newest: str) -> list[str]:
    """The fewest slices that cover a span of ids, and at its ends not much beside it; none if still too many."""
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


def _id_in_front_of(message_id: str) -> str:
    """Ids of any version may have been imported, so also neighbours."""
    return str(UUID(int=max(UUID(message_id).int - 1, 0)))
