"""Streams: accounts that take all they can get keep nobody out, and a provider pays for what it sends itself."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.live.client import SETTINGS, Person, at_once
from tests.live.exhaustion import cpu_of, percentile, watching
from tests.live.streams import Chat, Stream
from tests.support.provider import STALL, Reply, ScriptedProvider, openai_stream
from tests.support.server import GunicornServer

pytestmark = pytest.mark.nightly  # eleven accounts, and 63 MB from a provider, on each database

STREAMS, PER_USER, ACCOUNTS = 20, 4, 10
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[GunicornServer]:
    """One worker, so that its streams can be counted."""
    settings = SETTINGS | {
        "DATABASE_URL": database_url,
        "WEB_CONCURRENCY": "1",
        "THREADS": "8",
        "MAX_STREAMS": str(STREAMS),
        "MAX_STREAMS_PER_USER": str(PER_USER),
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
