"""Metrics for Prometheus, summed over all workers; collected only where METRICS_TOKEN enables /metrics."""

from bisect import bisect_left
from collections.abc import Callable, Iterator

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

_REQUESTS, _SECONDS, _COMPLETIONS, _EMBEDDED = "requests", "seconds", "completions", "embedded"
# upper bounds in seconds; the last number of a record is the sum
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, float("inf"))
_SUM = NUMBERS - 1
_SEPARATOR = "\x1f"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Process:
    """The counters of this process; each worker of a server has a slab of the memory that its master made."""

    shared: SharedCounters | None = None  # what /metrics sums up
    slab: Slab | None = None  # where this process counts
    has_master = False  # whether a server's master has made `shared`


_process = _Process()


def init_app(app: Flask) -> None:
    """Enable metrics where METRICS_TOKEN is set.

    A process without a master (`flask run`) gets its counters here, before it has threads: two of them that made the
    counters at the same time would overwrite each other's.
    """
    is_enabled = app.extensions[EXTENSION] = bool(app.config["METRICS_TOKEN"])
    if is_enabled and _process.slab is None:
        _process.shared = SharedCounters(1)
        _process.slab = _process.shared.slab(1)


def reserve_counters(workers: int) -> int | None:
    """In a server's master, before it forks a worker: which counters that one gets. None: no shared ones are free."""
    shared = _process.shared
    if shared is None or not _process.has_master:
        # a reload starts all workers before the old ones end
        shared = SharedCounters(2 * workers + 16)
        _process.shared, _process.has_master = shared, True
    return shared.reserve()


def use_counters(number: int | None) -> None:
    """In a worker, after the fork: count there, or in memory that nobody reads where no counters were free."""
    if _process.shared is not None:
        _process.slab = SharedCounters(1).slab(1) if number is None else _process.shared.slab(number)


def keep_counters(number: int | None) -> None:
    """In the master: keep what a worker that has ended has counted."""
    if _process.shared is not None and number is not None:
        _process.shared.release(number)


def count(method: str, route: str | None, status: int, duration_s: float) -> None:
    """Count a request. Labels are routes, never paths, so clients can't increase their number."""
    slab = _slab()
    if slab is None:
        return
    method, route = (method if method in _METHODS else "other"), route or "none"
    slab.add(_key(_REQUESTS, method, route, str(status)), (0, 1))
    slab.add(_key(_SECONDS, method, route), (bisect_left(_BUCKETS, duration_s), 1), (_SUM, duration_s))


def count_completion(status: str) -> None:
    """Count a completion that ended."""
    slab = _slab()
    if slab is not None:
        slab.add(_key(_COMPLETIONS, status), (0, 1))


def counter_of_embeddings() -> Callable[[int], None]:
    """What counts the tokens of an answer with embeddings, also after its request."""
    slab = _slab()

    def count_tokens(tokens: int) -> None:
        if slab is not None:
            slab.add(_key(_EMBEDDED), (0, tokens))

    return count_tokens


def _key(*parts: str) -> str:
    return _SEPARATOR.join(parts)


def exposition() -> bytes:
    """All metrics as text, over all workers of a server or of this process."""
    registry = CollectorRegistry()
    registry.register(_Totals())
    return prometheus_client.generate_latest(registry)


def _slab() -> Slab | None:
    """Where this process counts; None where metrics are not enabled."""
    return _process.slab if current_app.extensions[EXTENSION] else None


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
        embedded = CounterMetricFamily(
            "chat_api_embedding_tokens", "Tokens that providers have counted for embeddings."
        )
        for key, numbers in sorted(_process.shared.totals().items() if _process.shared else ()):
            name, *labels = key.split(_SEPARATOR)
            if name == _REQUESTS:
                requests.add_metric(labels, numbers[0])
            elif name == _SECONDS:
                seconds.add_metric(labels, buckets=_cumulative(numbers), sum_value=numbers[_SUM])
            elif name == _EMBEDDED:
                embedded.add_metric(labels, numbers[0])
            else:
                completions.add_metric(labels, numbers[0])
        yield from (requests, seconds, completions, embedded)


def _cumulative(numbers: list[float]) -> list[tuple[str, float]]:
    """Prometheus' buckets contain those below them."""
    total, buckets = 0.0, []
    for bound, number in zip(_BUCKETS, numbers, strict=False):
        total += number
        buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
    return buckets
