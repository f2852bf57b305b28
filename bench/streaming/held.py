"""Slow streams held at once: do all of them hold, are all replies stored, and what does a plain GET take meanwhile?

The streams begin one after the other; the window is the time in which all of them run.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.processes import cpu_between, cpu_seconds, pss_mib
from bench.rounds import Spread
from bench.streaming.audience import Audience, Turn, order_of
from bench.streaming.failures import Failures
from bench.streaming.pace import Pace
from bench.streaming.peers import Latencies, Probe, Provider
from bench.streaming.services import Service
from bench.streaming.streams import StreamMeasurement, stream
from bench.streaming.yardstick import Yardstick

LIMIT_GET_P99_MS = 15.0
EVERY_MS = 50
START_GAP_S = 0.0187
"""53 streams are begun per second. No divisor of the pace: their chunks shall come spread over time, not in step."""

WARM_UP_STREAMS = 10
QUIET_S = 4.0
"""How long the probe runs before the first stream, for comparison."""


@dataclass(frozen=True)
class HeldRow:
    """What became of the streams that one service held, over all rounds."""

    service: str
    streams: int
    least_at_once: int
    failed: int
    ttft_p99_ms: Spread
    gap_p99_ms: Spread
    late_p99_ms: Spread
    busy: Spread
    load_busy: Spread
    before_mib: float | None
    stream_kib: float | None

    @property
    def met(self) -> bool:
        """Whether all ran at the same time and none failed, in no round."""
        return self.least_at_once == self.streams and not self.failed

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"{self.streams} streams held on {self.service}"


@dataclass(frozen=True)
class PlainGetRow:
    """What a GET of one conversation took while the streams ran."""

    service: str
    streams: int
    where: str
    requests: int
    quiet_p99_ms: Spread
    p50_ms: Spread
    p99_ms: Spread
    failed: int
    limit_ms: float | None
    slowness: float = 1.0

    @property
    def reference_ms(self) -> float:
        """The 99th of 100 at the reference's speed."""
        return self.p99_ms.median / self.slowness

    @property
    def met(self) -> bool | None:
        """Whether it is quick enough, with none failed; None where there is no target.

        Where the streams never ran all at once there was no time to measure, so it is not met.
        """
        if self.limit_ms is None:
            return None
        return bool(self.requests) and self.reference_ms <= self.limit_ms and not self.failed

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"GET beside {self.streams} streams on {self.service}"


@dataclass
class _Window:
    """The time in which all streams ran. `loaders`: whose CPU time is used on the load generator's core."""

    service: Service
    loaders: list[int]
    hold_s: float
    start: float = 0.0
    end: float = 0.0
    pss_mib: float | None = None
    before: tuple[dict[int, float], dict[int, float]] = ({}, {})
    after: tuple[dict[int, float], dict[int, float]] = ({}, {})
    readings: list[float] = field(default_factory=list)

    def watch(self, event: str, at: float, client_pid: int) -> None:
        """Read the clocks as the window begins and ends, and the memory in its middle."""
        if event == "all running":
            self.start = at
            self.loaders.append(client_pid)
            self.before = self._clocks()
            time.sleep(self.hold_s / 2)
            self.pss_mib = pss_mib(self.service.server.worker)
        elif self.start:
            self.end = at
            self.after = self._clocks()

    def busy(self, whose: int) -> float:
        """Share of a core that the service (0) or the load generator and the database (1) used."""
        if len(self.readings) < 2:
            return 0.0
        return cpu_between(self.before[whose], self.after[whose]) / (self.readings[1] - self.readings[0])

    def _clocks(self) -> tuple[dict[int, float], dict[int, float]]:
        self.readings.append(time.monotonic())
        return cpu_seconds([self.service.server.process.pid]), cpu_seconds(self.loaders)


@dataclass(frozen=True)
class _Round:
    measurement: StreamMeasurement
    window: _Window
    quiet: Latencies
    meanwhile: Latencies
    failed: int


def measure_held(
    services: Sequence[Service],
    provider: Provider,
    streams: Mapping[str, int],
    yardstick: Yardstick,
    failures: Failures,
    *,
    rounds: int,
    hold_s: float,
    progress: Callable[[str], None],
) -> tuple[list[HeldRow], list[PlainGetRow]]:
    """Two rows for each service; `streams`: worker class -> how many to hold."""
    for service in services:  # what the first streams leave behind for good is not theirs
        failures.of_streams(service.name, *_warm_up(service))
    before_mib = {service.name: pss_mib(service.server.worker) for service in services}
    played: dict[str, list[_Round]] = {service.name: [] for service in services}
    for number in range(1, rounds + 1):
        yardstick.take_turn()
        for service in services:
            count = streams[service.worker_class]
            progress(f"holding {count} streams, round {number} of {rounds}: {service.name}")
            played[service.name].append(_hold(service, provider, count, hold_s, failures))
    return (
        [
            _held_row(one, streams[one.worker_class], before_mib[one.name], played[one.name])
            for one in services
        ],
        [_plain_get_row(one, streams[one.worker_class], played[one.name]) for one in services],
    )


def _warm_up(service: Service) -> tuple[StreamMeasurement, Audience, list[Turn]]:
    turns = service.audience.turns([Pace(10, 5, 5, text=number) for number in range(WARM_UP_STREAMS)])
    return stream(order_of(turns, service.server.port, at_once=1)), service.audience, turns


def _hold(service: Service, provider: Provider, count: int, hold_s: float, failures: Failures) -> _Round:
    chunks = round((count * START_GAP_S + hold_s) * 1000 / EVERY_MS)
    turns = service.audience.turns([Pace(10, EVERY_MS, chunks, text=number) for number in range(count)])
    order = order_of(turns, service.server.port, at_once=count, start_gap_s=START_GAP_S)
    probe = _probe(service, turns[0])
    try:
        window = _Window(service, [provider.pid, probe.pid, *service.database.server_pids], hold_s)
        quiet_from = time.monotonic()
        time.sleep(QUIET_S)
        quiet_until = time.monotonic()
        measurement = stream(order, window.watch)
    finally:
        probe.stop()
    quiet, meanwhile = probe.between(quiet_from, quiet_until), probe.between(window.start, window.end)
    who = f"{count} streams held, {service.name}"
    failures.add(f"GET beside {who}", quiet.failures)
    failures.add(f"GET beside {who}", meanwhile.failures)
    failed = failures.of_streams(who, measurement, service.audience, turns)
    return _Round(measurement, window, quiet, meanwhile, failed)


def _probe(service: Service, turn: Turn) -> Probe:
    """Begin to GET a conversation that nobody writes to during the window: its owner has another one streamed."""
    account = turn.member.account
    quiet_conversation = account.create_conversation("A conversation to read meanwhile")
    return Probe(service.neighbour.port, service.plain_get(quiet_conversation, account.token))


def _held_row(service: Service, count: int, before_mib: float | None, rounds: list[_Round]) -> HeldRow:
    during = [one.window.pss_mib for one in rounds if one.window.pss_mib is not None]
    grown_mib = None if before_mib is None or not during else median(during) - before_mib
    return HeldRow(
        service=service.name,
        streams=count,
        least_at_once=min(one.measurement.most_at_once for one in rounds),
        failed=sum(one.failed for one in rounds),
        ttft_p99_ms=Spread.over([one.measurement.ttft(0.99) for one in rounds]),
        gap_p99_ms=Spread.over([one.measurement.gap_p99_ms for one in rounds]),
        late_p99_ms=Spread.over([one.measurement.late_p99_ms for one in rounds]),
        busy=Spread.over([one.window.busy(0) for one in rounds]),
        load_busy=Spread.over([one.window.busy(1) for one in rounds]),
        before_mib=before_mib,
        stream_kib=None if grown_mib is None else grown_mib * 1024 / count,
    )


def _plain_get_row(service: Service, count: int, rounds: list[_Round]) -> PlainGetRow:
    counts = [one.meanwhile.count for one in rounds]
    return PlainGetRow(
        service=service.name,
        streams=count,
        where="a service of its own" if service.has_neighbour else "the same service",
        requests=sum(counts)
        if all(counts)
        else 0,  # a round without a window must not hide behind the others
        quiet_p99_ms=Spread.over([one.quiet.p99_ms for one in rounds]),
        p50_ms=Spread.over([one.meanwhile.p50_ms for one in rounds]),
        p99_ms=Spread.over([one.meanwhile.p99_ms for one in rounds]),
        failed=sum(sum(one.meanwhile.failures.values()) for one in rounds),
        limit_ms=LIMIT_GET_P99_MS if service.has_neighbour else None,
    )
