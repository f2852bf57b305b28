"""What a streamed chunk costs: CPU of the service per 1,000 chunks that arrive one by one, or in bursts.

The beginning and the end of each stream are included, as they are in service.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.figures import Spread
from bench.streaming.pace import Pace
from bench.streaming.streams import Service, Streamed
from bench.suite import Report, Row, Target, progress

FINISH_S = 0.4
"""Work of the service after the last stream has ended belongs to the streams: it has so long for it."""

ONE_BY_ONE = 0.9
"""Events per chunk below which a service must have merged chunks, and not just met two at once now and then."""


@dataclass(frozen=True)
class Work:
    """Streams to be relayed: how many, how many at once, at which pace; the most that 1,000 chunks may cost."""

    name: str
    title: str
    streams: int
    at_once: int
    pace: tuple[int, int, int]
    limit_ms: float | None

    @property
    def chunks(self) -> int:
        """The chunks of all streams together."""
        return self.streams * self.pace[2]


# The service reads a fast provider at a slower pace of its own and merges chunks into one event, which is cheaper
# (chat_api/completions/registry.py, SHORTEST_PACE_S). So a pace slower than that is measured too.
WORKS = (
    Work("chunks", "40 streams, 200 chunks, one every 5 ms", 40, 40, (10, 5, 200), 45.0),
    Work("apart", "40 streams, 200 chunks, one every 40 ms", 40, 40, (10, 40, 200), None),
    Work("burst", "20 streams at a time, 200 chunks at once", 100, 20, (10, 0, 200), None),
)


def measure_chunks(
    services: Sequence[Service],
    names: set[str],
    measure_yardstick: Callable[[], None],
    report: Report,
    rounds: int,
) -> list[Row]:
    """A row for each service and each kind of work that is named, in interleaved rounds after a warm-up."""
    works = [work for work in WORKS if work.name in names]
    runs: dict[tuple[str, str], list[Streamed]] = {}
    for number in range(rounds + 1):
        if number:
            measure_yardstick()
        for service in services:
            for work in works:
                progress(
                    f"{work.name}, {service.name}: {f'round {number} of {rounds}' if number else 'warm-up'}"
                )
                paces = [Pace(*work.pace, text=text) for text in range(work.streams)]
                streamed = service.stream(work.name, paces, report, at_once=work.at_once, finish_s=FINISH_S)
                if number:
                    runs.setdefault((service.name, work.name), []).append(streamed)
    return [_row(one.name, work, runs[one.name, work.name], report) for work in works for one in services]


def _row(service: str, work: Work, runs: list[Streamed], report: Report) -> Row:
    def spread(figure: Callable[[Streamed], float]) -> Spread:
        return Spread.over([figure(one) for one in runs])

    cpu_ms = spread(lambda one: one.server_cpu_s / work.chunks * 1e6)
    deltas = spread(lambda one: one.measurement.deltas / work.chunks).median
    failed = sum(one.failed for one in runs)
    if work.pace[1] and deltas < ONE_BY_ONE:
        report.notes.append(
            f"{service} passed on {1 / max(deltas, 1e-9):.1f} chunks as one event ({work.title}): "
            "its CPU is that of chunks that arrived one by one, but were not passed on so."
        )
    cells = {
        "service": service,
        "work": work.title,
        "chunks/s": f"{spread(lambda one: work.chunks / max(one.measurement.seconds, 1e-9)).median:,.0f}",
        "busy": f"{spread(lambda one: one.server_cpu_s / max(one.measurement.seconds, 1e-9)).median:.2f}",
        "deltas": f"{deltas:.2f}",
        "gap p99 ms": f"{spread(lambda one: one.measurement.gap_p99_ms).median:.1f}",
        "DB CPU ms": f"{spread(lambda one: one.database_cpu_s / work.chunks * 1e6).median:.1f}",
        "CPU ms (min-max)": str(cpu_ms),
        "failed": str(failed),
    }
    target = Target((cpu_ms.median,), (work.limit_ms,), is_scaled=True) if work.limit_ms else None
    return Row(f"CPU of {work.title} on {service}", cells, target, failed)
