"""Streams: accounts that take all they can get keep nobody out, and a provider pays for what it sends itself.

Clients that send or read slowly, or not at all, are in test_slow_clients.py as well: there each kind of request that
is half sent, and what ends them.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.live.client import SETTINGS, Person, at_once, wait_until
from tests.live.exhaustion import cpu_of, percentile, watching
from tests.live.streams import Chat, Stream
from tests.live.test_slow_clients import head
from tests.support.provider import STALL, Reply, ScriptedProvider, openai_stream
from tests.support.server import GunicornServer

pytestmark = pytest.mark.nightly  # eleven accounts, and 63 MB from a provider, on each database

STREAMS, PER_USER, ACCOUNTS = 20, 4, 10
MIB = 1024 * 1024
STALLED = "connection closed: the client stalled"


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[GunicornServer]:
    """One worker, so that its streams can be counted."""
    settings = SETTINGS | {
        "DATABASE_URL": database_url,
        "WEB_CONCURRENCY": "1",
        "THREADS": "8",
        "MAX_STREAMS": str(STREAMS),
        "MAX_STREAMS_PER_USER": str(PER_USER),
        "CLIENT_RATE_BYTES": "1000000",  # what the kernel keeps for a client counts as read
    }
    with GunicornServer(settings, migrate=False) as running:
        yield running


def test_ten_accounts_leave_streams_to_others(server: GunicornServer, provider: ScriptedProvider) -> None:
    innocent, greedy = Chat(server, provider), [Chat(server, provider) for _ in range(ACCOUNTS)]
    for chat in greedy:
        chat.script(openai_stream("a", STALL))
    with ExitStack() as opened:

        def take_all(chat: Chat) -> list[int]:
            """Follow one reply as often as it goes, and never read."""
            statuses = list[int]()
            first: Stream | None = None
            for _ in range(PER_USER + 2):
                stream = chat.follow(first.completion_id) if first else chat.stream()
                opened.callback(stream.hang_up)
                statuses.append(stream.status)
                if first is None and stream.status == 200:
                    first = stream.read_events(1)
            return statuses

        with watching(server, innocent) as watch:
            found = at_once([lambda chat=chat: take_all(chat) for chat in greedy])  # type: ignore[misc]
            with innocent.stream() as stream:
                assert stream.status == 200
                assert stream.read_to_end().name == "completion.completed"
    counts = [statuses.count(200) for statuses in found]
    assert all(1 <= count <= PER_USER for count in counts), counts
    assert sum(counts) < STREAMS
    assert set().union(*found) <= {200, 429, 503}
    assert not watch.failures
    assert percentile(watch.health_s, 99) < 1


def test_exports_that_nobody_reads_leave_slots_to_others(server: GunicornServer) -> None:
    """Each account may have two; the last ones are for users who have none. In the end they are cut off."""
    innocent, greedy = Person(server), [Person(server) for _ in range(3)]
    for person in greedy:
        conversation = person.conversation()
        for _ in range(8):  # more than the kernel keeps for a client that does not read
            assert person.say(conversation, "x" * MIB).status == 201
    cut_off = server.log.count(STALLED)
    with ExitStack() as opened:

        def begin_export(person: Person) -> int:
            """The status; streams that another test has just left may hold slots for some seconds more."""
            deadline = time.monotonic() + 30
            while (status := try_to_export(person)) == 503 and time.monotonic() < deadline:
                time.sleep(0.5)
            return status

        def try_to_export(person: Person) -> int:
            connection = opened.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(30)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(head("/chat/export", person, method="GET"))
            return int(connection.recv(12).split()[1])

        statuses = [[begin_export(person) for _ in range(3)] for person in greedy]
        assert statuses == [[200, 200, 429]] * 3
        with watching(server, innocent) as watch:
            exported = server.request("GET", "/chat/export", token=innocent.token)
            assert exported[0] == 200, exported
            headers = {"Content-Type": "application/x-ndjson"}
            imported = server.request(
                "POST", "/chat/import", token=innocent.token, headers=headers, body=exported[2]
            )
            assert imported[0] == 200, imported
            time.sleep(1)
        wait_until(lambda: server.log.count(STALLED) >= cut_off + 6, within_s=60, what="they are cut off")
    assert [export_status(server, person) for person in greedy] == [200] * 3
    assert not watch.failures
    assert percentile(watch.health_s, 99) < 1


def export_status(server: GunicornServer, person: Person) -> int:
    return int(server.request("GET", "/chat/export", token=person.token)[0])


def test_a_provider_that_sends_nothing_forever_burns_little(
    server: GunicornServer, provider: ScriptedProvider
) -> None:
    innocent: Person = Person(server)
    frames = {"empty": b"data: {}\n\n", "comments": b":\n", "choices": b'data: {"choices":[]}\n\n'}
    for name, frame in frames.items():
        chat = Chat(server, provider)
        chat.script(Reply(*[frame * (MIB // len(frame))] * 63, STALL))
        with watching(server, innocent) as watch:
            before_s, began = cpu_of(server), time.monotonic()
            answer = chat.post("/chat/completions", chat.body())
            cost_s = cpu_of(server) - before_s
        print(f"{name}: {cost_s:.1f} s of CPU, {time.monotonic() - began:.1f} s, {answer.status}")
        assert (answer.status, answer.body["code"]) == (502, "provider_failed")
        assert cost_s < 4  # 22 s without the limits on frames that bring nothing
        assert not watch.failures
        assert percentile(watch.health_s, 99) < 2
