"""Files made to be expensive to read: a bomb costs what its size allows, and others hardly notice."""

import json
import time
from collections.abc import Callable
from functools import cache, partial

import pytest

from chat_api.transfer.limits import MAX_CONVERSATION_BYTES, MAX_NODES, MAX_VALUES
from tests.live.client import Answer, Person, at_once
from tests.live.exhaustion import cpu_of, percentile, watching
from tests.support.server import GunicornServer
from tests.transfer.exports import file_of, whole
from tests.transfer.test_chatgpt import numbered, zipped

pytestmark = pytest.mark.nightly

MIB = 1024 * 1024
JSON, ZIP, NDJSON = "application/json", "application/zip", "application/x-ndjson"
EMOJI = "\U0001f600".encode()  # one of them makes a text take four bytes a character


def conversation_of(*texts: bytes) -> bytes:
    """One conversation of ChatGPT, a message of each."""
    nodes = (
        b'"n%d":{"message":{"content":{"parts":["%b"]}}}' % (number, text)
        for number, text in enumerate(texts)
    )
    return b'[{"mapping":{%b}}]' % b",".join(nodes)


# what takes most memory of all that is read: just below the limits of a conversation
HEAVY: dict[str, Callable[[], bytes]] = {
    "wide text": lambda: conversation_of(EMOJI + b"x" * (MAX_CONVERSATION_BYTES - 1000)),
    "wide texts": lambda: conversation_of(*[EMOJI + b"x" * (MIB - 10)] * (MAX_CONVERSATION_BYTES // MIB - 1)),
    "small nodes": lambda: conversation_of(*[b"x"] * (MAX_NODES - 1)),
    "objects": lambda: b'[{"mapping":{"a":[' + b'{"a":0},' * (MAX_VALUES // 3 - 10) + b"0]}}]",
}
CLIENTS, MAX_GROWTH_MIB = 16, 200
# made when they are needed: together they take seconds, which each process would spend to collect the tests
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "zeros": (lambda: zipped({"conversations.json": b"[" + b"0," * 500_000 + b"0]"}), ZIP),
    "brackets": (  # 96 MiB in 100 KB
        lambda: zipped({"conversations.json": b"[[" + b"[]," * (32 * MIB) + b"0]]"}),
        ZIP,
    ),
    "deep": (
        lambda: zipped(
            {"conversations.json": b"[[" + (b"[1," * 30 + b"1" + b"]" * 30 + b",") * 200_000 + b"0]]"}
        ),
        ZIP,
    ),
    "entries": (lambda: zipped({f"{number}": b"" for number in range(60_000)}), ZIP),
    "faults": (lambda: file_of(*whole(1), *[b"x"] * 1_000_000), NDJSON),
    "blank": (lambda: b"[" + b" " * (20 * MIB) + b"0]", JSON),
    "nodes": (
        lambda: b'[{"mapping":{%b}}]' % b",".join(b'"%d":{}' % number for number in range(1_000_000)),
        JSON,
    ),
}


@cache
def bomb(name: str) -> tuple[bytes, str]:
    """The content of a file and its type."""
    make, content_type = BOMBS[name]
    return make(), content_type


def import_file(person: Person, content: bytes, content_type: str) -> Answer:
    headers = {"Content-Type": content_type}
    return Answer(
        *person.server.request("POST", "/chat/import", token=person.token, headers=headers, body=content)
    )


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_what_its_size_allows(server: GunicornServer, attacker: Person, name: str) -> None:
    content, content_type = bomb(name)
    before_s = cpu_of(server)
    answer = import_file(attacker, content, content_type)
    cost_s = cpu_of(server) - before_s
    print(f"{name}: {len(content)} bytes, {cost_s:.2f} s of CPU, {answer.status}")
    assert answer.status in (200, 400), answer
    assert cost_s < 5 + len(content) / MIB + 1  # the budget for reading, and a second around it
    assert cost_s < 2 or len(content) > MIB or name in ("brackets", "deep")


def test_others_hardly_notice_bombs(server: GunicornServer, innocent: Person, attacker: Person) -> None:
    statuses = set[int]()
    names = ("zeros", "brackets", "deep", "nodes")
    for name in names:
        bomb(name)

    def keep_importing(name: str) -> None:
        ends_at = time.monotonic() + 3
        while time.monotonic() < ends_at:
            try:
                statuses.add(import_file(attacker, *bomb(name)).status)
            except OSError:  # refused while the body was still being sent
                statuses.add(429)

    with watching(server, innocent) as watch:
        at_once([partial(keep_importing, name) for name in names])
    assert statuses <= {200, 400, 429}
    assert statuses & {200, 400}, "All were refused before they were read."
    assert not watch.failures
    assert percentile(watch.health_s, 99) < 2
    assert watch.rss_growth_mib < MAX_GROWTH_MIB


def test_the_heaviest_conversations_are_in_memory_one_at_a_time(
    server: GunicornServer, innocent: Person
) -> None:
    """From as many users as it takes to have all slots for imports of all workers, at once."""
    attackers = [Person(server) for _ in range(CLIENTS // 2)]
    files = [make() for make in HEAVY.values()]
    statuses = list[int]()

    def keep_importing(number: int) -> None:
        ends_at = time.monotonic() + 3
        while time.monotonic() < ends_at:
            attacker, content = attackers[number % len(attackers)], files[number % len(files)]
            try:
                statuses.append(import_file(attacker, content, JSON).status)
            except OSError:  # refused while the body was still being sent
                statuses.append(429)

    with watching(server, innocent) as watch:
        at_once([partial(keep_importing, number) for number in range(CLIENTS)])
    assert set(statuses) <= {200, 400, 429, 503}
    assert 200 in statuses
    assert watch.rss_growth_mib < MAX_GROWTH_MIB
    assert not watch.failures


def test_an_early_end_is_reported_and_nothing_is_lost(attacker: Person) -> None:
    first = json.loads(numbered(7))
    content = json.dumps([*first, *[0] * 20_000]).encode()
    answer = import_file(attacker, content, JSON)
    assert answer.status == 200
    assert answer.body["ended_early"]["reason"] == "too_many_errors"
    assert answer.body["conversations"]["imported"] == 1
    again = import_file(attacker, content, JSON)
    assert again.body["conversations"]["unchanged"] == 1
