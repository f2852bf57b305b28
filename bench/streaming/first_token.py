"""Time to the first token: what the service adds to the provider's own, one stream at a time.

The client asks the service and the provider itself in turns; from each of the service's times the median of the
provider's own in the same round is taken away.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.load_client import percentile_ms
from bench.streaming.audience import order_of
from bench.streaming.failures import Failures
from bench.streaming.pace import Pace
from bench.streaming.peers import Provider
from bench.streaming.services import Service
from bench.streaming.streams import direct_order, stream
from bench.streaming.yardstick import Yardstick

LIMIT_P50_MS, LIMIT_P99_MS = 3.0, 10.0
STREAMS_PER_ROUND = 30
WARM_UP_STREAMS = 10
PACE = (10, 5, 5)
"""Milliseconds to the first chunk and between chunks, and chunks: the time to the first counts, so few follow."""


@dataclass(frozen=True)
class FirstTokenRow:
    """The times of all streams through one service, and of those asked of the provider itself."""

    service: str
    streams: int
    own_p50_ms: float
    p50_ms: float
    p99_ms: float
    added_p50_ms: float
    added_p99_ms: float
    failed: int
    slowness: float = 1.0

    @property
    def reference_ms(self) -> tuple[float, float]:
        """What is added at the reference's speed: the median, and what 99 of 100 stay within."""
        return self.added_p50_ms / self.slowness, self.added_p99_ms / self.slowness

    @property
    def met(self) -> bool:
        """Whether it adds no more than it may, with no stream failed."""
        p50_ms, p99_ms = self.reference_ms
        return p50_ms <= LIMIT_P50_MS and p99_ms <= LIMIT_P99_MS and not self.failed

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"time to first token on {self.service}"


@dataclass
class _Times:
    all_s: list[float] = field(default_factory=list)
    added_s: list[float] = field(default_factory=list)
    failed: int = 0


def measure_first_token(
    services: Sequence[Service],
    provider: Provider,
    yardstick: Yardstick,
    failures: Failures,
    *,
    rounds: int,
    progress: Callable[[str], None],
) -> list[FirstTokenRow]:
    """A row for each service; each takes a turn in every round, the yardstick and the provider itself first."""
    for service in services:
        progress(f"first token: warming up {service.name}")
        _ask(service, WARM_UP_STREAMS, failures, _Times(), 0.0)
    own_s: list[float] = []
    times = {service.name: _Times() for service in services}
    for number in range(1, rounds + 1):
        progress(f"first token, round {number} of {rounds}")
        yardstick.take_turn()
        direct = stream(direct_order(provider.port, _paces(STREAMS_PER_ROUND), at_once=1))
        failures.add("the provider itself", direct.failures)
        own_s += direct.ttft_s
        for service in services:
            _ask(service, STREAMS_PER_ROUND, failures, times[service.name], median(direct.ttft_s))
    return [_row(service, times[service.name], own_s) for service in services]


def _ask(service: Service, count: int, failures: Failures, times: _Times, own_median_s: float) -> None:
    turns = service.audience.turns(_paces(count))
    measurement = stream(order_of(turns, service.server.port, at_once=1))
    times.failed += failures.of_streams(f"first token, {service.name}", measurement, service.audience, turns)
    times.all_s += measurement.ttft_s
    times.added_s += [seconds - own_median_s for seconds in measurement.ttft_s]


def _row(service: Service, times: _Times, own_s: list[float]) -> FirstTokenRow:
    every, added = sorted(times.all_s), sorted(times.added_s)
    return FirstTokenRow(
        service=service.name,
        streams=len(every),
        own_p50_ms=percentile_ms(sorted(own_s), 0.50),
        p50_ms=percentile_ms(every, 0.50),
        p99_ms=percentile_ms(every, 0.99),
        added_p50_ms=percentile_ms(added, 0.50),
        added_p99_ms=percentile_ms(added, 0.99),
        failed=times.failed,
    )


def _paces(count: int) -> list[Pace]:
    return [Pace(*PACE, text=number) for number in range(count)]
