"""What a streamed chunk costs: CPU of the service per 1,000 chunks that arrive one by one, or in bursts.

The beginning and the end of each stream are part of it, as they are in service.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.processes import cpu_between, cpu_seconds
from bench.rounds import Spread
from bench.streaming.audience import order_of
from bench.streaming.failures import Failures
from bench.streaming.pace import Pace
from bench.streaming.services import Service
from bench.streaming.streams import StreamMeasurement, stream
from bench.streaming.yardstick import Yardstick

SETTLING_S = 0.4
"""What the service still does when the last stream has ended belongs to them: it is given so long."""


@dataclass(frozen=True)
class Work:
    """Streams to be relayed: how many, how many at once, at which pace; what 1,000 of their chunks may cost."""

    name: str
    title: str
    streams: int
    at_once: int
    pace: tuple[int, int, int]
    limit_ms: float | None


# The service reads a fast provider at a slower pace of its own and passes on several chunks as one event, which is
# cheaper (chat_api/completions/runs.py, SHORTEST_PACE_S). So the same is measured at a pace slower than that.
WORKS = (
    Work("chunks", "40 streams, 200 chunks, one every 5 ms", 40, 40, (10, 5, 200), 45.0),
    Work("apart", "40 streams, 200 chunks, one every 40 ms", 40, 40, (10, 40, 200), None),
    Work("burst", "20 streams at a time, 200 chunks at once", 100, 20, (10, 0, 200), None),
)


@dataclass(frozen=True)
class ChunksRow:
    """One kind of work on one service. CPU is in milliseconds per 1,000 chunks of the provider."""

    service: str
    work: str
    server_ms: Spread
    database_ms: Spread
    busy: Spread
    rate: Spread
    deltas_per_chunk: Spread
    one_by_one: bool
    gap_p99_ms: Spread
    failed: int
    limit_ms: float | None
    slowness: float = 1.0

    @property
    def reference_ms(self) -> float:
        """The CPU at the reference's speed."""
        return self.server_ms.median / self.slowness

    @property
    def met(self) -> bool | None:
        """Whether it costs no more than it may, with no stream failed; None where there is no target."""
        return None if self.limit_ms is None else self.reference_ms <= self.limit_ms and not self.failed

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"CPU of {self.work} on {self.service}"


@dataclass(frozen=True)
class _Window:
    measurement: StreamMeasurement
    chunks: int
    server_cpu_s: float
    database_cpu_s: float
    failed: int


def measure_chunks(
    services: Sequence[Service],
    names: set[str],
    yardstick: Yardstick,
    failures: Failures,
    *,
    rounds: int,
    progress: Callable[[str], None],
) -> list[ChunksRow]:
    """A row for each service and each kind of work that is named, measured in turns."""
    works = [work for work in WORKS if work.name in names]
    windows: dict[tuple[str, str], list[_Window]] = {}
    for number in range(rounds + 1):
        if number:
            yardstick.take_turn()
        for service in services:
            for work in works:
                progress(
                    f"{work.name}, {service.name}: {f'round {number} of {rounds}' if number else 'warm-up'}"
                )
                window = _relay(service, work, failures)
                if number:
                    windows.setdefault((service.name, work.name), []).append(window)
    return [_row(service, work, windows[service.name, work.name]) for work in works for service in services]


def _relay(service: Service, work: Work, failures: Failures) -> _Window:
    turns = service.audience.turns([Pace(*work.pace, text=number) for number in range(work.streams)])
    order = order_of(turns, service.server.port, at_once=work.at_once)
    servers, databases = [service.server.process.pid], service.database.server_pids
    server_before, database_before = cpu_seconds(servers), cpu_seconds(databases)
    measurement = stream(order)
    time.sleep(SETTLING_S)
    server_after, database_after = cpu_seconds(servers), cpu_seconds(databases)
    return _Window(
        measurement,
        work.streams * work.pace[2],
        cpu_between(server_before, server_after),
        cpu_between(database_before, database_after),
        failures.of_streams(f"{work.name}, {service.name}", measurement, service.audience, turns),
    )


def _row(service: Service, work: Work, windows: list[_Window]) -> ChunksRow:
    def spread(figure: Callable[[_Window], float]) -> Spread:
        return Spread.over([figure(window) for window in windows])

    return ChunksRow(
        service=service.name,
        work=work.title,
        server_ms=spread(lambda one: one.server_cpu_s / one.chunks * 1e6),
        database_ms=spread(lambda one: one.database_cpu_s / one.chunks * 1e6),
        busy=spread(lambda one: one.server_cpu_s / max(one.measurement.seconds, 1e-9)),
        rate=spread(lambda one: one.chunks / max(one.measurement.seconds, 1e-9)),
        deltas_per_chunk=spread(lambda one: one.measurement.deltas / one.chunks),
        one_by_one=work.pace[1] > 0,
        gap_p99_ms=spread(lambda one: one.measurement.gap_p99_ms),
        failed=sum(window.failed for window in windows),
        limit_ms=work.limit_ms,
    )
