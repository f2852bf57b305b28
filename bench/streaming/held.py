"""Slow streams held at once: do all of them run, are all replies stored, and how long does a plain GET take during it?

The streams begin one after the other; the window is the time in which all of them run.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.figures import Spread, percentile
from bench.load import get_request
from bench.processes import cpu_between, cpu_seconds, pss_mib
from bench.servers import HOST, PipedProcess
from bench.streaming.pace import Pace
from bench.streaming.streams import Provider, Service, Streamed
from bench.suite import Report, Row, Target, progress

LIMIT_GET_P99_MS = 15.0
EVERY_MS = 50
START_GAP_S = 0.0187
"""53 streams are begun per second. No divisor of the pace: their chunks must come spread over time, not in step."""

WARM_UP = [Pace(10, 5, 5, text=number) for number in range(10)]
PROBES_PER_S = 50
QUIET_S = 4.0
"""How long the probe runs before the first stream, for comparison."""

CROWDED = 0.9
"""How busy the load generator's core may be before it is what is measured."""


@dataclass
class Window:
    """The time in which all streams ran. `loaders`: whose CPU time is used on the load generator's core."""

    service: Service
    loaders: list[int]
    hold_s: float
    pss_mib: float | None = None
    ends: list[float] = field(default_factory=list)
    readings: list[tuple[float, dict[int, float], dict[int, float]]] = field(default_factory=list)

    def watch(self, event: str, at: float, client_pid: int) -> None:
        """Read the clocks as the window begins and ends, and the memory in its middle."""
        if event == "all running" or self.ends:
            self.ends.append(at)
        if event == "all running":
            self.loaders.append(client_pid)
            self._read_clocks()
            time.sleep(self.hold_s / 2)
            self.pss_mib = pss_mib(self.service.server.worker)
        elif self.readings:
            self._read_clocks()

    def _read_clocks(self) -> None:
        service = cpu_seconds([self.service.server.process.pid])
        self.readings.append((time.monotonic(), service, cpu_seconds(self.loaders)))

    @property
    def busy(self) -> tuple[float, float]:
        """Share of a core that the service used, and that of provider, client, probe and database."""
        if len(self.readings) < 2:
            return 0.0, 0.0
        (start, *before), (end, *after) = self.readings
        service, load = map(cpu_between, before, after)
        return service / (end - start), load / (end - start)


@dataclass(frozen=True)
class Round:
    """One time that the streams were held. `quiet_s`, `get_s`: what GETs took before them, and in the window."""

    streamed: Streamed
    window: Window
    quiet_s: list[float]
    get_s: list[float]
    get_failures: dict[str, int]


def measure_held(
    services: Sequence[Service],
    provider: Provider,
    streams: Mapping[str, int],
    measure_yardstick: Callable[[], None],
    report: Report,
    *,
    rounds: int,
    hold_s: float,
) -> tuple[list[Row], list[Row]]:
    """Two rows for each service: its streams, and the GETs. `streams`: worker class -> how many to hold."""
    for service in services:  # what the first streams leave in memory for good is not counted
        service.stream("warm-up", WARM_UP, report)
    before_mib = {service.name: pss_mib(service.server.worker) for service in services}
    results: dict[str, list[Round]] = {service.name: [] for service in services}
    for number in range(1, rounds + 1):
        measure_yardstick()
        for service in services:
            count = streams[service.worker_class]
            progress(f"holding {count} streams, round {number} of {rounds}: {service.name}")
            results[service.name].append(_hold(service, provider, count, hold_s, report))
    counts = {service.name: streams[service.worker_class] for service in services}
    return (
        [
            _held_row(one, counts[one.name], before_mib[one.name], results[one.name], report)
            for one in services
        ],
        [_get_row(one, counts[one.name], results[one.name]) for one in services],
    )


def _hold(service: Service, provider: Provider, count: int, hold_s: float, report: Report) -> Round:
    chunks = round((count * START_GAP_S + hold_s) * 1000 / EVERY_MS)
    paces = [Pace(10, EVERY_MS, chunks, text=number) for number in range(count)]
    account = service.members[0].account  # no other stream writes to the conversation that is read
    path = f"/chat/conversations/{account.create_conversation('A conversation to read')}"
    request = get_request(service.neighbour.port, path, account.token)
    order = {"host": HOST, "port": service.neighbour.port, "request": request, "rate": PROBES_PER_S}
    with PipedProcess("bench.streaming.probe") as probe:
        probe.stdin.write(json.dumps(order) + "\n")
        probe.stdin.flush()
        window = Window(service, [provider.pid, probe.pid, *service.database.server_pids], hold_s)
        quiet_from = time.monotonic()
        time.sleep(QUIET_S)
        quiet_until = time.monotonic()
        what = f"{count} streams held"
        streamed = service.stream(
            what, paces, report, at_once=count, start_gap_s=START_GAP_S, watch=window.watch
        )
        answers = json.loads(probe.finish())
    start, end = window.ends if len(window.ends) == 2 else (0.0, 0.0)
    quiet = [one for one in answers if quiet_from <= one[0] < quiet_until]
    during = [one for one in answers if start <= one[0] < end]
    failures = Counter(status for _at, _seconds, status in quiet + during if not status.startswith("2"))
    report.fail(f"GET during {what}, {service.name}", failures)
    return Round(streamed, window, [one[1] for one in quiet], [one[1] for one in during], dict(failures))


def _held_row(
    service: Service, count: int, before_mib: float | None, rounds: list[Round], report: Report
) -> Row:
    measurements = [one.streamed.measurement for one in rounds]
    during = [one.window.pss_mib for one in rounds if one.window.pss_mib is not None]
    grown_kib = None if before_mib is None or not during else (median(during) - before_mib) * 1024
    least_at_once = min(one.most_at_once for one in measurements)
    failed = sum(one.streamed.failed for one in rounds)
    load_busy = [one.window.busy[1] for one in rounds]
    if max(load_busy) > CROWDED:
        report.notes.append(
            f"While {count} streams were held on {service.name}, provider, client and database used "
            f"{max(load_busy):.0%} of their core: gaps and latencies are partly theirs."
        )
    cells = {
        "service": service.name,
        "streams": f"{count:,}",
        "at once": f"{least_at_once:,}",
        "failed": str(failed),
        "first p99 ms": f"{median(one.ttft_ms(0.99) for one in measurements):.0f}",
        "gap p99 ms (min-max)": str(Spread.over([one.gap_p99_ms for one in measurements])),
        "late p99 ms": f"{median(one.late_p99_ms for one in measurements):.0f}",
        "busy": f"{median(one.window.busy[0] for one in rounds):.2f}",
        "load": f"{median(load_busy):.2f}",
        "before MiB": "" if before_mib is None else f"{before_mib:.1f}",
        "KiB per stream": "" if grown_kib is None else f"{grown_kib / count:.0f}",
        "missing": str(count - least_at_once),
    }
    target = Target((count - least_at_once,), (0,))
    return Row(f"{count} streams held on {service.name}", cells, target, failed)


def _get_row(service: Service, count: int, rounds: list[Round]) -> Row:
    """Without a window in every round there was nothing to measure, so the target is not met."""
    p99_ms = Spread.over([percentile(one.get_s, 0.99) * 1000 for one in rounds])
    failed = sum(sum(one.get_failures.values()) for one in rounds)
    cells = {
        "streams in": service.name,
        "streams": f"{count:,}",
        "GETs go to": "a service of its own" if service.has_neighbour else "the same service",
        "GETs": f"{sum(len(one.get_s) for one in rounds):,}",
        "quiet p99 ms": f"{median(percentile(one.quiet_s, 0.99) * 1000 for one in rounds):.1f}",
        "p50 ms": f"{median(percentile(one.get_s, 0.5) * 1000 for one in rounds):.2f}",
        "p99 ms (min-max)": str(p99_ms),
        "failed": str(failed),
    }
    measured = p99_ms.median if all(one.get_s for one in rounds) else float("inf")
    target = Target((measured,), (LIMIT_GET_P99_MS,), is_scaled=True) if service.has_neighbour else None
    return Row(f"GET during {count} streams on {service.name}", cells, target, failed)
