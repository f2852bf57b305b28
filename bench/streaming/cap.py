"""Beyond the cap: with as many streams running as a worker or a user may have, one more is refused at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.load_client import percentile_ms
from bench.streaming.audience import Member, order_of
from bench.streaming.failures import Failures
from bench.streaming.pace import Pace
from bench.streaming.services import Service, start
from bench.streaming.sse import header_of
from bench.streaming.streams import StreamMeasurement, stream

LIMIT_MS = 100.0
"""What "at once" means for the slowest refusal: nothing that was queued until a stream ends comes so soon."""

STREAMS = 20
STREAMS_PER_USER = 5
REFUSED = 50
GAP_S = 0.02
EVERY_MS = 50
CHUNKS = 80
"""The streams run for 4 s, far longer than the refusals take."""


@dataclass(frozen=True)
class CapRow:
    """What the streams beyond one cap were answered with, and how soon."""

    service: str
    cap: str
    running: int
    tried: int
    refused: int
    expected: str
    p50_ms: float
    slowest_ms: float
    failed: int

    @property
    def met(self) -> bool:
        """Whether all were refused as they should be, in time, and no running stream suffered."""
        return self.refused == self.tried and self.slowest_ms <= LIMIT_MS and not self.failed

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"streams beyond the {self.cap}'s cap on {self.service}"


def measure_cap(
    services: Sequence[Service], failures: Failures, *, progress: Callable[[str], None]
) -> list[CapRow]:
    """Two rows for each service: the worker's cap and the user's. Both on a server of its own with low caps."""
    rows = []
    for service in services:
        progress(f"beyond the cap: {service.name}")
        with start(
            service.database, service.folder, service.worker_class, STREAMS, STREAMS_PER_USER
        ) as capped:
            members = service.audience.members
            enough, other = members[: STREAMS // STREAMS_PER_USER], members[STREAMS // STREAMS_PER_USER :]
            rows.append(
                _try(service, capped.port, failures, "user", enough[:1], STREAMS_PER_USER, enough[:1])
            )
            rows.append(_try(service, capped.port, failures, "worker", enough, STREAMS, other))
    return rows


def _try(
    service: Service,
    port: int,
    failures: Failures,
    cap: str,
    members: Sequence[Member],
    running: int,
    others: Sequence[Member],
) -> CapRow:
    """Have `members` run so many streams, then `others` ask for more, one after the other."""
    expected = {"user": "429", "worker": "503"}[cap]
    paces = [Pace(10, EVERY_MS, CHUNKS, text=number) for number in range(running)]
    turns = service.audience.turns(paces, members)
    more = service.audience.turns([Pace(10, EVERY_MS, CHUNKS)] * REFUSED, others)
    refusals: list[StreamMeasurement] = []

    def ask_for_more(event: str, _at: float, _client_pid: int) -> None:
        if event == "all running":
            refusals.append(stream(order_of(more, port, at_once=1, start_gap_s=GAP_S)))

    measurement = stream(order_of(turns, port, at_once=running), ask_for_more)
    failed = failures.of_streams(
        f"up to the {cap}'s cap, {service.name}", measurement, service.audience, turns
    )
    answers = refusals[0].refusals if refusals else []
    good = [
        answer["ms"] / 1000
        for answer in answers
        if answer["status"] == expected and header_of(answer["head"].encode(), "Retry-After")
    ]
    return CapRow(
        service=service.name,
        cap=cap,
        running=running,
        tried=len(more),
        refused=len(good),
        expected=expected,
        p50_ms=percentile_ms(sorted(good), 0.50),
        slowest_ms=max(good, default=0.0) * 1000,
        failed=failed,
    )
