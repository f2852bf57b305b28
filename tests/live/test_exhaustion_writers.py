"""Writes that take long: on SQLite, which has one writer, others hardly notice them; on Postgres not at all.

Each case prints the innocent user's figures with `pytest -s`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any
from zlib import crc32

import pytest

from chat_api.database.columns import new_id
from chat_api.search_index.lexemes import number_of
from tests.live.client import SETTINGS, Person
from tests.live.exhaustion import Watch, percentile, watching
from tests.support.server import GunicornServer
from tests.transfer.exports import conversation, file_of, message

pytestmark = pytest.mark.nightly

LONGEST_S = 0.25
LONG, LARGE = 2500, 150  # messages: many small ones, and some of 6 KB
# the same in the sizes that were reported: 14.6 MB in one conversation, 20,000 messages in two branches
FULL_LONG, FULL_LARGE = 10_000, 2050
FULL = pytest.mark.timeout(1800)
Line = dict[str, Any]


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[GunicornServer]:
    settings = SETTINGS | {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "2", "THREADS": "16"}
    with GunicornServer(settings, migrate=False) as running:
        yield running


@pytest.fixture(scope="module")
def idle_s(server: GunicornServer, innocent: Person) -> float:
    """The 99th percentile of what a POST takes while nothing else happens."""
    with watching(server, innocent) as watch:
        time.sleep(2)
    return percentile(watch.posts_s, 99)


def require_unhurt(watch: Watch, idle_s: float) -> None:
    """No request of the innocent user failed, and none took long."""
    assert not watch.failures
    for times_s in (watch.posts_s, watch.reads_s):
        assert percentile(times_s, 99) <= max(LONGEST_S, 5 * idle_s), watch


def import_lines(person: Person, *lines: Line) -> Any:
    headers = {"Content-Type": "application/x-ndjson"}
    status, _, report = person.server.request(
        "POST", "/chat/import", token=person.token, headers=headers, body=file_of(*lines)
    )
    assert status == 200, report
    return report


def chain(count: int, ids: Callable[[int], str] = lambda _: new_id()) -> list[Line]:
    """A conversation of so many small messages, each a reply to the one before."""
    first = conversation(last_position=count)
    said: list[Line] = []
    for position in range(1, count + 1):
        said.append(message(first, position, said[-1] if said else None, id=ids(position)))
    return [{**first, "active_leaf_id": said[-1]["id"]}, *said]


def large(count: int = LARGE) -> list[Line]:
    """A conversation of messages of 6 KB, of words that occur once."""
    first = conversation(last_position=count)
    said: list[Line] = []
    for position in range(1, count + 1):
        words = " ".join(f"w{position:x}y{number:x}" for number in range(800))
        said.append(message(first, position, said[-1] if said else None, content=words))
    return [{**first, "active_leaf_id": said[-1]["id"]}, *said]


def fork(count: int) -> tuple[list[Line], str, str]:
    """Two branches of so many messages from one beginning, and the ends of both."""
    lines = chain(count)
    first, root = lines[0], lines[1]
    other: list[Line] = []
    for position in range(count + 1, 2 * count):
        other.append(message(first, position, other[-1] if other else root))
    first["last_position"] = 2 * count
    return [*lines, *other], lines[-1]["id"], other[-1]["id"]


def colliding_ids(count: int) -> list[str]:
    """Ids that want the same number in SQLite's index and have the same CRC-32: by linear algebra, as that is linear.

    Digits 0 to 7 differ in three bits that can be chosen. Of 15 of them, 45 bits, 13 are left when the 32 of the
    checksum are as they should be.
    """
    start = "01900000-0000-7000-8000-000000000000"
    places = [index for index in range(20, 36) if index not in (19, 23)][:15]
    zero = crc32(start.encode())

    def with_bits(bits: int) -> str:
        text = bytearray(start.encode())
        for number, place in enumerate(places):
            text[place] ^= bits >> 3 * number & 7
        return text.decode()

    basis: dict[int, tuple[int, int]] = {}
    kernel = []
    for bit in range(3 * len(places)):
        value, made_of = crc32(with_bits(1 << bit).encode()) ^ zero, 1 << bit
        while value:
            pivot = value.bit_length()
            if pivot not in basis:
                basis[pivot] = value, made_of
                break
            value, made_of = value ^ basis[pivot][0], made_of ^ basis[pivot][1]
        else:
            kernel.append(made_of)
    found = []
    for number in range(count):
        bits = 0
        for index, vector in enumerate(kernel):
            bits ^= vector if number >> index & 1 else 0
        found.append(with_bits(bits))
    assert len(set(found)) == count
    assert len({(crc32(each.encode()), number_of(each)) for each in found}) == 1
    return found


@pytest.mark.parametrize("count", [LARGE, pytest.param(FULL_LARGE, marks=FULL)])
def test_an_import_of_a_large_conversation(
    server: GunicornServer, innocent: Person, attacker: Person, idle_s: float, count: int
) -> None:
    lines = large(count)
    print(f"{len(file_of(*lines)) / 1e6:.1f} MB")
    path = f"/chat/conversations/{lines[0]['id']}"
    seen: list[int] = []
    ended = threading.Event()

    def look() -> None:
        """Whole, or not at all."""
        while not ended.wait(0.05):
            if attacker.get(path).status == 200:
                seen.append(attacker.get(path).body["message_count"])

    with ThreadPoolExecutor(1) as pool, watching(server, innocent) as watch:
        looking = pool.submit(look)
        try:
            assert not import_lines(attacker, *lines)["errors"]
        finally:
            ended.set()
        looking.result()
    assert set(seen) <= {count}
    require_unhurt(watch, idle_s)


def test_an_import_of_ids_that_collide(
    server: GunicornServer, innocent: Person, attacker: Person, idle_s: float
) -> None:
    ids = colliding_ids(4000)
    lines = chain(len(ids), ids=lambda position: ids[position - 1])
    with watching(server, innocent) as watch:
        began = time.monotonic()
        assert import_lines(attacker, *lines)["messages"]["imported"] == len(ids)
        print(f"imported in {time.monotonic() - began:.1f} s")
    require_unhurt(watch, idle_s)


@pytest.mark.parametrize("length", [LONG, pytest.param(FULL_LONG, marks=FULL)])
@pytest.mark.parametrize("how", ["patch", "post"])
def test_six_clients_that_move_the_path_far(
    server: GunicornServer, innocent: Person, attacker: Person, idle_s: float, how: str, length: int
) -> None:
    lines, one, other = fork(length)
    import_lines(attacker, *lines)
    conversation_id = lines[0]["id"]

    def move(number: int) -> None:
        for _ in range(2):
            leaf = (one, other)[number % 2]
            if how == "patch":
                attacker.patch(f"/chat/conversations/{conversation_id}", {"active_leaf_id": leaf})
            else:
                attacker.say(conversation_id, "Here", parent_id=leaf)

    with ThreadPoolExecutor(6) as pool, watching(server, innocent) as watch:
        list(pool.map(move, range(6)))
    path = attacker.messages(conversation_id)
    for before, after in pairwise(path):
        assert after["parent_id"] == before["id"]
    assert attacker.get(f"/chat/conversations/{conversation_id}").body["active_leaf_id"] == path[-1]["id"]
    answer = attacker.patch(f"/chat/conversations/{conversation_id}", {"active_leaf_id": one})
    assert (answer.status, answer.body["active_leaf_id"]) == (200, one)
    assert len(attacker.messages(conversation_id)) == length
    require_unhurt(watch, idle_s)


def test_more_requests_of_one_user_than_a_worker_runs(
    server: GunicornServer, innocent: Person, attacker: Person, idle_s: float
) -> None:
    """All change one conversation, so all but one of them wait for it, and they could have every connection."""
    lines, one, other = fork(LONG)
    import_lines(attacker, *lines)

    def move(number: int) -> None:
        attacker.say(lines[0]["id"], "Here", parent_id=(one, other)[number % 2])

    with ThreadPoolExecutor(48) as pool, watching(server, innocent) as watch:
        list(pool.map(move, range(48)))
    require_unhurt(watch, idle_s)


@pytest.mark.parametrize("what", ["conversation", "branch", "account"])
def test_deleting_much(
    server: GunicornServer, innocent: Person, attacker: Person, idle_s: float, what: str
) -> None:
    lines = large()
    import_lines(attacker, *lines)
    many = chain(LONG)
    import_lines(attacker, *many)
    with watching(server, innocent) as watch:
        if what == "account":
            assert attacker.delete("/auth/me").status == 204
        for each in (lines, many) if what != "account" else ():
            path = f"conversations/{each[0]['id']}" if what == "conversation" else f"messages/{each[2]['id']}"
            assert attacker.delete(f"/chat/{path}").status == 204
            left = attacker.get(f"/chat/conversations/{each[0]['id']}")
            assert left.status == 404 if what == "conversation" else left.body["message_count"] == 1
    require_unhurt(watch, idle_s)
