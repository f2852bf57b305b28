"""Finding the newest messages with given words, in either database, for a price that is bounded.

SQLite's FTS5 reads backwards in the order of its rowids, and these rise with time: it stops when the page is full.
Postgres' GIN index knows no order and gives all matches, so it is asked about spans of time, from the newest one on,
each as an intersection with the slices that the span lies in (`terms.lexemes`). A scan stops at `_GUARD` rows.
"""

import time
from dataclasses import dataclass, field

import orjson
import sqlalchemy as sa

from .. import statements
from ..columns import Id
from ..statements import Statement
from ..terms.lexemes import SLICE_DIGITS, conversation_lexeme, number_of, owner_code, slice_lexeme
from ..terms.models import MessageTerms
from .query import Phrase, Query

_NEAR = 1000  # messages: in so many newest ones a common word fills a page
_GUARD = 3000  # rows: more are not sorted, but asked for again in a shorter span
_MOST_SLICES = 16  # of one span
_DENSE = 3  # matches among the nearest thousand messages: then all of them are too many to be sorted
_MOST_GROWTH = 64
_LONGEST_SPAN_MS = 2**32  # 50 days: with a thousand messages a day still less than what takes long
_PATIENCE_S = 0.3  # after that a search ends with what it has, and says where it can go on
_TIME_DIGITS = 12  # of a UUIDv7: milliseconds since 1970
_LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: the newest `count` messages with these words, before the one called `before`."""

    user_id: str
    query: Query
    count: int
    before: str | None = None
    conversation_id: str | None = None

    @property
    def also(self) -> tuple[str, ...]:
        """Lexemes that are required beside the words."""
        return (conversation_lexeme(self.conversation_id),) if self.conversation_id else ()


@dataclass(frozen=True, slots=True)
class Found:
    """Ids of messages, newest first; and where to go on if not all was looked through, as an id."""

    ids: list[str]
    resume_before: str | None = None


def find_newest(wanted: Wanted) -> Found:
    """Find the newest messages. There may be fewer than wanted, even none, where `resume_before` is set."""
    if statements.writes_in_one_round_trip():
        return _find_by_gin(wanted)
    return Found(_find_by_fts5(wanted))


# -- SQLite -------------------------------------------------------------------------------------------------


def _text(sql: str, **kinds: sa.types.TypeEngine) -> Statement:
    """A statement that is written out, with the ids of messages as its rows."""
    parameters = [sa.bindparam(name, type_=kind) for name, kind in kinds.items()]
    return Statement(sa.text(sql).bindparams(*parameters).columns(message_id=Id()))


_BELOW = (
    "coalesce((SELECT number FROM message_terms WHERE user_id = :owner AND message_id = :before), :number)"
)
_BY_FTS5 = _text(
    f"""
    SELECT t.message_id FROM message_index AS i
    CROSS JOIN message_terms AS t ON t.user_id = :owner AND t.number = i.rowid
    WHERE i.message_index MATCH :query AND i.rowid < {_BELOW}
    ORDER BY i.rowid DESC LIMIT :count
    """,  # noqa: S608
    owner=Id(), query=sa.String(), before=Id(), number=sa.BigInteger(), count=sa.Integer(),
)  # fmt: skip
# a prefix makes FTS5 merge all words that it stands for; where they are many, the newest messages have one of them
_BY_READING = _text(
    f"""
    SELECT message_id FROM (
        SELECT message_id, terms || ' ' AS terms FROM message_terms
        WHERE user_id = :owner AND number < {_BELOW} ORDER BY number DESC LIMIT {_NEAR}
    )
    WHERE NOT EXISTS (SELECT 1 FROM json_each(:required) WHERE instr(terms, value) = 0)
    AND NOT EXISTS (SELECT 1 FROM json_each(:excluded) WHERE instr(terms, value) > 0)
    LIMIT :count
    """,  # noqa: S608
    owner=Id(), before=Id(), number=sa.BigInteger(), count=sa.Integer(), required=sa.String(), excluded=sa.String(),
)  # fmt: skip


def _find_by_fts5(wanted: Wanted) -> list[str]:
    place = {
        "owner": wanted.user_id,
        "before": wanted.before,
        "number": number_of(wanted.before) if wanted.before else 2**63 - 1,
        "count": wanted.count,
    }
    if wanted.query.has_prefix:
        required = [*(f" {lexeme} " for lexeme in wanted.also), *map(_in_plain_text, wanted.query.required)]
        excluded = list(map(_in_plain_text, wanted.query.excluded))
        texts = {"required": orjson.dumps(required).decode(), "excluded": orjson.dumps(excluded).decode()}
        near = _BY_READING.all(**place, **texts)
        if len(near) == wanted.count:
            return [message_id for (message_id,) in near]
    query = wanted.query.as_fts5(wanted.user_id, also=wanted.also)
    return [message_id for (message_id,) in _BY_FTS5.all(**place, query=query)]


def _in_plain_text(phrase: Phrase) -> str:
    """A phrase as it stands in SQLite's terms, between spaces."""
    return f" {' '.join(phrase.terms)}{'' if phrase.is_prefix else ' '}"


# -- Postgres -----------------------------------------------------------------------------------------------

_OWNER = MessageTerms.user_id == sa.bindparam("owner", type_=Id())
_BEFORE = MessageTerms.message_id < sa.bindparam("before", type_=Id())
_QUERY = "terms @@ CAST(:query AS tsquery)"


def _newest(steps: sa.ColumnElement[int]) -> sa.ScalarSelect[str]:
    newest = (
        sa.select(MessageTerms.message_id).where(_OWNER, _BEFORE).order_by(MessageTerms.message_id.desc())
    )
    return newest.offset(steps).limit(sa.literal_column("1")).scalar_subquery()


# a thousand entries of an index are stepped over: the least that says how dense in time somebody's messages are
_NEAREST = Statement(
    sa.select(_newest(sa.literal_column("0")), _newest(sa.bindparam("near", type_=sa.Integer())))
)
# IS TRUE keeps the planner from adding the primary key to the scan: reading all of a user's entries there would cost a
# hundred times the rest, and it does not know who has a million
_BY_GIN = _text(
    f"""
    SELECT message_id, seen FROM (
        SELECT message_id, count(*) OVER () AS seen FROM (
            SELECT message_id FROM message_terms WHERE {_QUERY} AND (user_id = :owner) IS TRUE LIMIT :guard
        ) AS matches
    ) AS counted WHERE message_id < :before ORDER BY message_id DESC LIMIT :count
    """,  # noqa: S608
    owner=Id(), query=sa.Text(), before=Id(), count=sa.Integer(), guard=sa.Integer(),
)  # fmt: skip
# two conditions, not one with an AND in it: so the index jumps from a match of either to the next one of the other
_BY_GIN_IN_SLICES = _text(
    f"""
    SELECT message_id, count(*) OVER () AS seen FROM (
        SELECT message_id FROM message_terms
        WHERE {_QUERY} AND terms @@ CAST(:slices AS tsquery)
        AND (user_id = :owner) IS TRUE AND (message_id < :before) IS TRUE
        LIMIT :guard
    ) AS matches ORDER BY message_id DESC LIMIT :count
    """,  # noqa: S608
    owner=Id(), query=sa.Text(), slices=sa.Text(), before=Id(), count=sa.Integer(), guard=sa.Integer(),
)  # fmt: skip
# a prefix is all the words that it stands for, and the index gathers the matches of each: the newest are just read
_NEWEST_BY_READING = _text(
    f"""
    WITH near AS MATERIALIZED (
        SELECT message_id, terms FROM message_terms WHERE user_id = :owner AND message_id < :before
        ORDER BY message_id DESC LIMIT {_NEAR}
    )
    SELECT message_id FROM near WHERE {_QUERY} ORDER BY message_id DESC LIMIT :count
    """,  # noqa: S608
    owner=Id(), query=sa.Text(), before=Id(), count=sa.Integer(),
)  # fmt: skip


def _find_by_gin(wanted: Wanted) -> Found:
    search = _Search(wanted)
    if wanted.query.has_prefix and search.reads_the_newest():
        return Found(search.found)
    newest, thousandth = _NEAREST.all(owner=wanted.user_id, before=search.below, near=_NEAR)[0]
    if newest is None:
        return Found([])
    search.end = _time_of(str(newest)) + 1
    if thousandth is not None and not wanted.query.has_prefix:
        search.goes_back(search.end - _time_of(str(thousandth)))
        while not search.is_done and search.gained >= _DENSE:
            search.goes_back(search.span)
    if not search.is_done and not search.takes_all_matches():
        reached = search.below
        while not search.is_done:
            search.goes_back(search.span)
            if time.monotonic() > search.gives_up_at and search.below != reached:
                return Found(search.found, None if search.is_done else search.below)
    return Found(search.found)


@dataclass(slots=True)
class _Search:
    """A search on its way back in time. Times are milliseconds since 1970; `end` is where it has come to."""

    wanted: Wanted
    found: list[str] = field(default_factory=list)
    gained: int = 0  # by the last step
    span: int = 16 ** (_TIME_DIGITS - SLICE_DIGITS[-1])  # of the next step
    end: int = 0
    below: str = _LAST
    gives_up_at: float = field(default_factory=lambda: time.monotonic() + _PATIENCE_S)
    _query: str = ""

    def __post_init__(self) -> None:
        self._query = self.wanted.query.as_tsquery(self.wanted.user_id, also=self.wanted.also)
        if self.wanted.before:
            self.below = self.wanted.before

    @property
    def is_done(self) -> bool:
        """Whether there are enough, or none older."""
        return len(self.found) >= self.wanted.count or self.end == 0

    def reads_the_newest(self) -> bool:
        """Look through the newest messages themselves; whether there were enough."""
        rows = _NEWEST_BY_READING.all(**self._asked())
        if len(rows) == self.wanted.count:
            self.found = [str(message_id) for (message_id,) in rows]
        return bool(self.found)

    def takes_all_matches(self) -> bool:
        """Ask for all matches of all time; whether there were so few that they could be sorted."""
        if self.wanted.query.has_phrase:  # each match of its words is read to see where they stand
            words = self.wanted.query.as_tsquery(self.wanted.user_id, also=self.wanted.also, only_words=True)
            rows = _BY_GIN.all(**{**self._asked(), "query": words, "count": 1}, guard=_GUARD + 1)
            if not rows or rows[0][1] > _GUARD:
                return not rows
        rows = _BY_GIN.all(**self._asked(), guard=_GUARD + 1)
        if rows and rows[0][1] > _GUARD:
            return False
        self.found += [str(message_id) for message_id, _ in rows]
        return True

    def goes_back(self, span: int) -> None:
        """Take what lies in the next span of time, or try a shorter one next time where that is too much."""
        start, digits = _slices_between(max(0, self.end - max(span, 1)), self.end)
        code = owner_code(self.wanted.user_id)
        slices = " | ".join(f"'{code}{slice_lexeme(each)}'" for each in digits) or self._query
        is_shortest = len(digits) == 1 and len(digits[0]) == SLICE_DIGITS[-1]
        guard = 2**31 - 1 if is_shortest else _GUARD + 1
        rows = _BY_GIN_IN_SLICES.all(**self._asked(), slices=slices, guard=guard)
        if rows and rows[0][1] == guard:
            self.span = span // 16
            return
        left = self.wanted.count - len(self.found)
        self.gained = len(rows)
        self.found += [str(message_id) for message_id, _ in rows]
        growth = min(1 + 1.5 * left // self.gained, _MOST_GROWTH) if rows else 8
        self.span = min(int(span * growth), _LONGEST_SPAN_MS)
        self.end, self.below = start, _id_at(start)

    def _asked(self) -> dict[str, object]:
        left = self.wanted.count - len(self.found)
        return {"owner": self.wanted.user_id, "query": self._query, "before": self.below, "count": left}


def _time_of(message_id: str) -> int:
    return int(message_id[:8] + message_id[9:13], 16)


def _id_at(time_ms: int) -> str:
    digits = f"{time_ms:012x}"
    return f"{digits[:8]}-{digits[8:]}-0000-0000-000000000000"


def _slices_between(start: int, end: int) -> tuple[int, list[str]]:
    """The shortest slices that cover a span of time, of one length, and the time at which the first begins.

    None, from the beginning of time, where they would be too many.
    """
    for digits in reversed(SLICE_DIGITS):
        width = 16 ** (_TIME_DIGITS - digits)
        first, last = start // width, (end - 1) // width
        if last - first < _MOST_SLICES:
            return first * width, [f"{number:0{digits}x}" for number in range(first, last + 1)]
    return 0, []
