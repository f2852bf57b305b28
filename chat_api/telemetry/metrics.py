"""Metrics for Prometheus, summed over all workers; collected only where METRICS_TOKEN enables /metrics."""

from bisect import bisect_left
from collections.abc import Iterator

import prometheus_client
from flask import Flask, current_app
from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from .shared_counters import NUMBERS, SharedCounters, Slab

EXTENSION = "chat_api.metrics"
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

_REQUESTS, _SECONDS, _COMPLETIONS = "requests", "seconds", "completions"
# upper bounds in seconds; the last number of a record is the sum
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, float("inf"))
_SUM = NUMBERS - 1
_SEPARATOR = "\x1f"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Process:
    """The counters of this process; each worker of a server has a slab of the memory that its master made."""

    shared: SharedCounters | None = None
    slab: Slab | None = None
    has_master = False  # else the counters are this process's own


_process = _Process()


def init_app(app: Flask) -> None:
    """Enable metrics where METRICS_TOKEN is set."""
    app.extensions[EXTENSION] = bool(app.config["METRICS_TOKEN"])


def reserve_counters(workers: int) -> int | None:
    """In a server's master, before it forks a worker: which counters that one gets. None: no shared ones are free."""
    if _process.shared is None:
        # a reload starts all workers before the old ones end
        _process.shared, _process.has_master = SharedCounters(2 * workers + 16), True
    return _process.shared.reserve()


def use_counters(number: int | None) -> None:
    """In a worker, after the fork: count there."""
    if _process.shared is not None and number is not None:
        _process.slab = _process.shared.slab(number)


def keep_counters(number: int | None) -> None:
    """In the master: keep what a worker that has ended has counted."""
    if _process.shared is not None and number is not None:
        _process.shared.release(number)


def count(method: str, route: str | None, status: int, duration_s: float) -> None:
    """Count a request. Labels are routes, never paths, so clients can't increase their number."""
    if not current_app.extensions[EXTENSION]:
        return
    method, route = (method if method in _METHODS else "other"), route or "none"
    slab = _slab()
    slab.add(_key(_REQUESTS, method, route, str(status)), (0, 1))
    slab.add(_key(_SECONDS, method, route), (bisect_left(_BUCKETS, duration_s), 1), (_SUM, duration_s))


def count_completion(status: str) -> None:
    """Count a completion that ended."""
    if current_app.extensions[EXTENSION]:
        _slab().add(_key(_COMPLETIONS, status), (0, 1))


def _key(*parts: str) -> str:
    return _SEPARATOR.join(parts)


def exposition() -> bytes:
    """All metrics as text, over all workers of a server or of this process."""
    registry = CollectorRegistry()
    registry.register(_Totals())
    return prometheus_client.generate_latest(registry)


def _counters() -> SharedCounters:
    if _process.shared is None:
        _process.shared = SharedCounters(1)
    return _process.shared


def _slab() -> Slab:
    """This process's slab: of memory of its own where no master has made any (`flask run`) or none was free."""
    if _process.slab is None:
        _process.slab = (SharedCounters(1) if _process.has_master else _counters()).slab(1)
    return _process.slab


class _Totals(Collector):
    """The sums as prometheus-client's metrics."""

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "chat_api_requests",
            "Requests by method, route and response status.",
            labels=["method", "route", "status"],
        )
        seconds = HistogramMetricFamily(
            "chat_api_request_seconds",
            "Duration of requests in seconds, until the response begins.",
            labels=["method", "route"],
        )
        completions = CounterMetricFamily(
            "chat_api_completions", "Completions that ended, by status.", labels=["status"]
        )
        for key, numbers in sorted(_counters().totals().items()):
            name, *labels = key.split(_SEPARATOR)
            if name == _REQUESTS:
                requests.add_metric(labels, numbers[0])
            elif name == _SECONDS:
                seconds.add_metric(labels, buckets=_cumulative(numbers), sum_value=numbers[_SUM])
            else:
                completions.add_metric(labels, numbers[0])
        yield from (requests, seconds, completions)


def _cumulative(numbers: list[float]) -> list[tuple[str, float]]:
    """Prometheus' buckets contain those below them."""
    total, buckets = 0.0, []
    for bound, number in zip(_BUCKETS, numbers, strict=False):
        total += number
        buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
    return buckets
