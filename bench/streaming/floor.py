"""The floor: the same streams asked of the provider itself, so what provider and client take without a service.

They share one core with the database. Where they alone come close to its limits, the other figures tell of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bench.processes import cpu_between, cpu_seconds
from bench.streaming.chunks import WORKS
from bench.streaming.failures import Failures
from bench.streaming.held import EVERY_MS, START_GAP_S
from bench.streaming.pace import Pace
from bench.streaming.peers import Provider
from bench.streaming.streams import direct_order, stream


@dataclass(frozen=True)
class FloorRow:
    """One kind of streams without any service; `busy` is of provider and client together."""

    work: str
    ttft_p50_ms: float
    gap_p99_ms: float
    rate: float
    busy: float
    failed: int

    @property
    def met(self) -> None:
        """There is no target."""

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"{self.work}, from the provider itself"


def measure_floor(
    provider: Provider, held: int, hold_s: float, failures: Failures, *, progress: Callable[[str], None]
) -> list[FloorRow]:
    """A row for each kind of work, and one for the largest number of streams that is held."""
    rows = []
    kinds = [(work.title, work.streams, work.at_once, work.pace, 0.0) for work in WORKS]
    chunks = round((held * START_GAP_S + hold_s) * 1000 / EVERY_MS)
    title = f"{held} streams, one chunk every {EVERY_MS} ms"
    kinds.append((title, held, held, (10, EVERY_MS, chunks), START_GAP_S))
    for title, streams, at_once, pace, gap_s in kinds:
        progress(f"the provider itself: {title}")
        paces = [Pace(*pace, text=number) for number in range(streams)]
        before = cpu_seconds([provider.pid])
        measurement = stream(direct_order(provider.port, paces, at_once=at_once, start_gap_s=gap_s))
        cpu_s = cpu_between(before, cpu_seconds([provider.pid])) + measurement.client_cpu_s
        rows.append(
            FloorRow(
                work=title,
                ttft_p50_ms=measurement.ttft(0.50),
                gap_p99_ms=measurement.gap_p99_ms,
                rate=measurement.deltas / measurement.seconds,
                busy=cpu_s / measurement.seconds,
                failed=failures.add(title, measurement.failures),
            )
        )
    return rows
