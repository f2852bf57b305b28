"""Searching through more messages than one look reaches, whose ids are of all kinds: an import brings any."""

import itertools
import random
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_api.search import postgres, sqlite
from chat_api.search.query import parse
from chat_api.search_index import writer
from chat_api.search_index.lexemes import number_of
from tests.search.test_query import matches
from tests.search.test_search import next_link
from tests.support.api import Api
from tests.transfer.exports import conversation, file_of, imported, message

YEAR_MS = 365 * 86_400_000
START_MS = 1_300_000_000_000
TIED = [f"01900000-0000-7000-8000-{number:012x}" for number in range(1000, 1060)]
COUNTED = [f"00000000-0000-0000-0000-{number:012x}" for number in range(1, 41)]
LAST = "ffffffff-ffff-ffff-ffff-fffffffffffe"
QUERIES = (
    "every", "bygone", "n3", "bygone n3", '"fore after"', '"fore then"', "byg*", "every -n3", "rare", "left right",
    "every -every", "every -byg*", '"then aft*" n1', "nothing",
)  # fmt: skip


def uuid7(chance: random.Random, time_ms: int) -> str:
    bits = time_ms << 80 | 7 << 76 | chance.getrandbits(12) << 64 | 2 << 62 | chance.getrandbits(62)
    return str(UUID(int=bits))


def some_ids() -> list[str]:
    """Of twelve years, of one hour, of no time at all; with many that want one number."""
    chance = random.Random(4)
    spread = [uuid7(chance, START_MS + number * 12 * YEAR_MS // 600) for number in range(600)]
    dense = [uuid7(chance, START_MS + 13 * YEAR_MS + number * 4000) for number in range(900)]
    more = [uuid7(chance, START_MS + chance.randrange(13 * YEAR_MS)) for _ in range(80)]
    unordered = [str(UUID(int=chance.getrandbits(128))) for _ in range(150)]
    return sorted({*spread, *dense, *more, *unordered, *TIED, *COUNTED, LAST})


def content_of(number: int, count: int) -> str:
    words = ["every", f"n{number % 7}", ("left", "right")[number % 2]]
    if number < count * 2 // 3 and number % 3:
        words.append("bygone")
    if number % 5 == 0:
        words += ["fore", "then", "after"]
    if number % 500 == 7:
        words.append("rare")
    return " ".join(words)


class Searcher:
    """Somebody with messages: what each one says, and the conversation that it is in."""

    def __init__(self, api: Api, contents: dict[str, str], places: dict[str, str], on_sqlite: bool) -> None:
        self.api, self.contents, self.places, self.on_sqlite = api, contents, places, on_sqlite

    def walk(self, **parameters: Any) -> list[str]:
        """The ids on all pages."""
        response, seen = self.api.get("/chat/search", query_string={"limit": 100, **parameters}), []
        while True:
            assert response.status_code == 200, response.get_data(as_text=True)
            seen += [item["message"]["id"] for item in response.get_json()]
            if (link := next_link(response)) is None:
                return seen
            response = self.api.get(link)

    def expected(self, q: str, place: str | None = None) -> list[str]:
        query = parse(q)
        return [
            one
            for one in sorted(self.contents, reverse=True)
            if place in (None, self.places[one]) and matches(self.contents[one], query)
        ]

    def comparable(self, ids: list[str]) -> list[str]:
        """SQLite has no order among ids that want the same number, so these come last, sorted."""
        tied = {*TIED, *COUNTED} if self.on_sqlite else set()
        return [one for one in ids if one not in tied] + sorted(one for one in ids if one in tied)


@pytest.fixture(scope="module")
def searcher(backend: str, make_user: Callable[..., Api]) -> Searcher:
    on_sqlite, user = backend == "sqlite", make_user()
    ids = some_ids()
    two = [conversation(), conversation()]
    two[1]["id"] = "00000001" + two[0]["id"][8:]  # ids of version 1 end alike, for example
    lines: list[dict[str, Any]] = []
    contents, places = {}, {}
    for which, place in enumerate(two):
        own = ids[which::2]
        random.Random(which).shuffle(own)
        lines.append(place)
        for position, one in enumerate(own, start=1):
            contents[one], places[one] = content_of(ids.index(one), len(ids)), place["id"]
            lines.append(message(place, position, id=one, content=contents[one]))
    chance = random.Random(5)
    with pytest.MonkeyPatch.context() as patch:  # more samples than one of 512
        patch.setattr(writer, "is_sample", lambda: chance.random() < 0.05)
        assert not imported(user, file_of(*lines))["errors"]
    return Searcher(user, contents, places, on_sqlite)


@pytest.mark.parametrize("q", QUERIES)
def test_pages_lead_through_all_matches(searcher: Searcher, q: str) -> None:
    seen = searcher.walk(q=q)
    assert searcher.comparable(seen) == searcher.comparable(searcher.expected(q))


@pytest.mark.parametrize("q", QUERIES)
def test_search_that_takes_long_goes_on_at_the_next_page(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch, q: str
) -> None:
    """As if each part took too long. A page may be empty, and lead on all the same."""
    for module in (postgres, sqlite):
        monkeypatch.setattr(module, "PATIENCE_S", 0.001)
    seen = searcher.walk(q=q)
    assert searcher.comparable(seen) == searcher.comparable(searcher.expected(q))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    q=st.lists(st.sampled_from(QUERIES), min_size=1, max_size=2).map(" ".join),
    number=st.integers(0, 10_000),
    unknown=st.none() | st.uuids().map(str),
)
def test_page_begins_anywhere(searcher: Searcher, q: str, number: int, unknown: str | None) -> None:
    """Behind a message, or behind an id of none."""
    after = unknown or sorted(searcher.contents)[number % len(searcher.contents)]
    if searcher.on_sqlite and number_of(after) in {number_of(TIED[0]), number_of(COUNTED[0])}:
        return
    expected = [one for one in searcher.expected(q) if one < after]
    answer = searcher.api.get("/chat/search", query_string={"q": q, "after": after, "limit": 20}).get_json()
    seen = [item["message"]["id"] for item in answer]
    if not searcher.on_sqlite or not {*seen, *expected[:20]} & {*TIED, *COUNTED}:
        assert seen == expected[:20]


def test_conversation_is_told_from_one_whose_id_ends_alike(searcher: Searcher) -> None:
    for place in set(searcher.places.values()):
        seen = searcher.walk(q="n3", conversation_id=place)
        assert searcher.comparable(seen) == searcher.comparable(searcher.expected("n3", place))


def test_relevance_is_of_the_newest_thousand(searcher: Searcher) -> None:
    answer = searcher.api.get("/chat/search", query_string={"q": "every", "sort": "relevance", "limit": 100})
    assert next_link(answer) is None
    newest = set(searcher.expected("every")[:1000])
    assert {item["message"]["id"] for item in answer.get_json()} <= newest
    rare = searcher.walk(q="rare", sort="relevance")
    assert set(rare) == set(searcher.expected("rare"))


def test_found_message_leads_to_its_neighbours(searcher: Searcher) -> None:
    [found] = searcher.walk(q="rare n0")[:1]
    place = searcher.places[found]
    around = searcher.api.get(
        f"/chat/conversations/{place}/messages", query_string={"around": found, "limit": 5, "branch": "all"}
    )
    assert around.status_code == 200
    assert found in [each["id"] for each in around.get_json()]


def test_slices_cover_a_span_and_nothing_twice() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        width = 16 ** chance.randrange(1, 7)
        start = chance.randrange(16**8 - 2 * width)
        first, last = sorted(start + chance.randrange(width) for _ in range(2))
        slices = postgres._slices_between(f"{first:08x}-", f"{last:08x}-")
        ends = sorted((int(one.ljust(7, "0"), 16), int(one.ljust(7, "f"), 16)) for one in slices)
        assert (ends[0][0], ends[-1][1]) == (first // 16, last // 16)
        assert all(one[1] + 1 == following[0] for one, following in itertools.pairwise(ends))
        assert len(slices) < 200
    assert postgres._slices_between(COUNTED[0], LAST) == []
