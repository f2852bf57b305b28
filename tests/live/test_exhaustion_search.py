"""Searches made to be expensive: prefixes, phrases that never match, long messages, many at once."""

import time
from urllib.parse import urlencode

import pytest

from tests.live.client import Answer, Person, at_once
from tests.live.exhaustion import percentile, watching
from tests.support.server import GunicornServer

pytestmark = pytest.mark.nightly

MESSAGES, WORDS = 24, 60_000  # about 4.8 MB of words of two and three characters
LETTERS = "abcdefgh"


@pytest.fixture(scope="module")
def hoarder(server: GunicornServer) -> Person:
    """A user with messages full of words that begin alike."""
    person = Person(server)
    conversation = person.conversation()
    for number in range(MESSAGES):
        words = (f"x{LETTERS[index % 8]}{(index * 7 + number) % 1296:x}" for index in range(WORDS))
        assert person.say(conversation, " ".join(words)).status == 201
    return person


def search(person: Person, q: str, **parameters: str | int) -> Answer:
    return person.get("/chat/search?" + urlencode({"q": q, **parameters}))


def test_at_most_eight_prefixes(hoarder: Person) -> None:
    refused = search(hoarder, " ".join(f"x{letter}{digit}*" for letter in LETTERS for digit in "12"))
    assert refused.status == 400
    assert refused.body["errors"]["q"] == ["More than 8 prefixes (words with * at the end)."]


@pytest.mark.parametrize(
    "q",
    [
        pytest.param(" ".join(f"x{letter}*" for letter in LETTERS), id="prefixes"),
        pytest.param(" ".join(f"x{letter}* -zz{letter}" for letter in LETTERS[:4]), id="exclusions"),
        pytest.param('"' + " ".join(["xa0", "xb1"] * 16) + '"', id="phrase"),
        pytest.param("nothing* " + " ".join(f"x{letter}*" for letter in LETTERS[:7]), id="no-match"),
    ],
)
@pytest.mark.parametrize("sort", ["newest", "relevance"])
def test_a_search_made_to_be_expensive_takes_no_second(hoarder: Person, q: str, sort: str) -> None:
    began = time.perf_counter()
    answer = search(hoarder, q, sort=sort, limit=100)
    took_s = time.perf_counter() - began
    print(f"{took_s:.2f} s, {len(answer.body)} found")
    assert answer.status == 200, answer
    assert took_s < 2


def test_others_hardly_notice_eight_expensive_searches(
    server: GunicornServer, innocent: Person, hoarder: Person
) -> None:
    q, statuses = " ".join(f"x{letter}*" for letter in LETTERS), set[int]()

    def keep_searching() -> None:
        ends_at = time.monotonic() + 3
        while time.monotonic() < ends_at:
            statuses.add(search(hoarder, q, limit=100).status)

    with watching(server, innocent) as watch:
        at_once([keep_searching] * 8)
    assert statuses == {200, 429}  # two at a time in each worker
    assert not watch.failures
    assert percentile(watch.health_s, 99) < 1


def test_following_the_links_finds_everything(hoarder: Person) -> None:
    """However often a search ends because it took long."""
    found: list[str] = []
    path = "/chat/search?" + urlencode({"q": " ".join(f"x{letter}*" for letter in LETTERS), "limit": 100})
    for _ in range(100):
        answer = hoarder.get(path)
        assert answer.status == 200
        found += [item["message"]["id"] for item in answer.body]
        link = answer.headers.get("Link")
        if link is None:
            break
        path = link[1 : link.index(">")]
    assert len(found) == len(set(found)) == MESSAGES
