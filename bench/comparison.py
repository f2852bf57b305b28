"""The hot endpoints against the yardstick, on each database, in interleaved rounds."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from bench.endpoints import ENDPOINTS, Endpoint, hello_requests
from bench.rounds import Contestant, Rounds, Spread, play
from bench.setting import Setting

YARDSTICK = "hello"


@dataclass(frozen=True)
class ComparisonRow:
    """One endpoint, or the yardstick itself, on one database; a ratio is taken round by round."""

    database: str
    request: str
    body_bytes: int
    server_us: Spread
    database_us: Spread
    busy: Spread
    rate: Spread
    p50_ms: Spread
    p99_ms: Spread
    failed: int
    rate_ratio: Spread
    cpu_ratio: Spread
    limit: float | None
    is_yardstick: bool

    @property
    def met(self) -> bool | None:
        """Whether it costs no more than it may, with no request failed; None where there is no target."""
        return None if self.limit is None else self.cpu_ratio.median <= self.limit and not self.failed

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"CPU of {self.request} on {self.database}"


def compare(
    settings: Sequence[Setting],
    endpoints: Collection[str],
    *,
    rounds: int,
    seconds: float,
    progress: Callable[[str], None],
) -> tuple[list[ComparisonRow], Rounds]:
    """Measure the named endpoints everywhere, each setting's yardstick right before its endpoints."""
    chosen = [endpoint for endpoint in ENDPOINTS if endpoint.name in endpoints]
    contestants = []
    for setting in settings:
        contestants.append(_yardstick(setting))
        contestants += [_contestant(setting, endpoint) for endpoint in chosen]
    results = play(contestants, rounds, seconds, progress)
    rows = []
    for setting in settings:
        database = setting.database.name
        rows.append(_row(results, database, YARDSTICK, "Flask hello", None))
        rows += [_row(results, database, one.name, one.title, one.limits.get(database)) for one in chosen]
    return rows, results


def _yardstick(setting: Setting) -> Contestant:
    server = setting.yardstick
    return Contestant(
        _name(setting.database.name, YARDSTICK),
        server.port,
        partial(hello_requests, server.port),
        [server.process.pid],
        setting.database.server_pids,
    )


def _contestant(setting: Setting, endpoint: Endpoint) -> Contestant:
    return Contestant(
        _name(setting.database.name, endpoint.name),
        setting.service.port,
        partial(endpoint.requests, setting.stage),
        [setting.service.process.pid],
        setting.database.server_pids,
    )


def _row(results: Rounds, database: str, name: str, request: str, limit: float | None) -> ComparisonRow:
    contestant, yardstick = _name(database, name), _name(database, YARDSTICK)
    measurements = results.measurements[contestant]
    return ComparisonRow(
        database=database,
        request=request,
        body_bytes=measurements[-1].body_bytes,
        server_us=results.spread(contestant, lambda one: one.server_us),
        database_us=results.spread(contestant, lambda one: one.database_us),
        busy=results.spread(contestant, lambda one: one.server_cpu_s / one.seconds),
        rate=results.spread(contestant, lambda one: one.rate),
        p50_ms=results.spread(contestant, lambda one: one.p50_ms),
        p99_ms=results.spread(contestant, lambda one: one.p99_ms),
        failed=sum(one.failed for one in measurements),
        rate_ratio=results.ratio(contestant, yardstick, lambda one: one.rate),
        cpu_ratio=results.ratio(contestant, yardstick, lambda one: one.server_us),
        limit=limit,
        is_yardstick=name == YARDSTICK,
    )


def _name(database: str, endpoint: str) -> str:
    return f"{database}: {endpoint}"
