"""Time to the first token: what the service adds to the provider's own, one stream at a time.

In every round the client streams from the provider itself too; that median is subtracted from the service's times.
"""

from collections.abc import Callable, Sequence
from statistics import median

from bench.figures import percentile
from bench.streaming.pace import Pace
from bench.streaming.streams import Provider, Service
from bench.suite import Report, Row, Target, progress

LIMIT_P50_MS, LIMIT_P99_MS = 3.0, 10.0
WARM_UP_STREAMS = 10
PACES = [Pace(10, 5, 5, text=number) for number in range(30)]
"""10 ms to the first chunk; few follow, as only the first is measured."""


def measure_first_token(
    services: Sequence[Service],
    provider: Provider,
    measure_yardstick: Callable[[], None],
    report: Report,
    rounds: int,
) -> list[Row]:
    """A row for each service; each is measured in every round, after the yardstick and the provider itself."""
    for service in services:
        progress(f"first token: warming up {service.name}")
        service.stream("first token", PACES[:WARM_UP_STREAMS], report)
    own_s: list[float] = []
    times_s: dict[str, list[float]] = {service.name: [] for service in services}
    added_s: dict[str, list[float]] = {service.name: [] for service in services}
    failed = dict.fromkeys(times_s, 0)
    for number in range(1, rounds + 1):
        progress(f"first token, round {number} of {rounds}")
        measure_yardstick()
        direct_s = provider.stream(PACES, report).ttft_s
        own_s += direct_s
        for service in services:
            streamed = service.stream("first token", PACES, report)
            failed[service.name] += streamed.failed
            times_s[service.name] += streamed.measurement.ttft_s
            added_s[service.name] += [one - median(direct_s) for one in streamed.measurement.ttft_s]
    return [_row(name, own_s, times_s[name], added_s[name], failed[name]) for name in times_s]


def _row(service: str, own_s: list[float], times_s: list[float], added_s: list[float], failed: int) -> Row:
    def ms(times: list[float], share: float) -> float:
        return percentile(times, share) * 1000

    added = ms(added_s, 0.5), ms(added_s, 0.99)
    cells = {
        "service": service,
        "streams": str(len(times_s)),
        "own p50 ms": f"{ms(own_s, 0.5):.2f}",
        "p50 ms": f"{ms(times_s, 0.5):.2f}",
        "p99 ms": f"{ms(times_s, 0.99):.2f}",
        "added p50 ms": f"{added[0]:.2f}",
        "added p99 ms": f"{added[1]:.2f}",
        "failed": str(failed),
    }
    target = Target(added, (LIMIT_P50_MS, LIMIT_P99_MS), is_scaled=True)
    return Row(f"time to first token on {service}", cells, target, failed)
