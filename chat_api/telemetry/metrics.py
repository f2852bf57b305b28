"""What is counted for Prometheus, summed over all workers; only where METRICS_TOKEN enables /metrics."""

from bisect import bisect_left
from collections.abc import Callable

from flask import Flask, current_app

from .shared_counters import NUMBERS, SharedCounters, Slab

EXTENSION = "chat_api.metrics"

REQUESTS, SECONDS, COMPLETIONS, EMBEDDED = "requests", "seconds", "completions", "embedded"
# upper bounds in seconds; the last number of a record is the sum
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, float("inf"))
SUM = NUMBERS - 1
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
    slab.add(_key(REQUESTS, method, route, str(status)), (0, 1))
    slab.add(_key(SECONDS, method, route), (bisect_left(BUCKETS, duration_s), 1), (SUM, duration_s))


def count_completion(status: str) -> None:
    """Count a completion that ended."""
    slab = _slab()
    if slab is not None:
        slab.add(_key(COMPLETIONS, status), (0, 1))


def counter_of_embeddings() -> Callable[[int], None]:
    """What counts the tokens of an answer with embeddings, also after its request."""
    slab = _slab()

    def count_tokens(tokens: int) -> None:
        if slab is not None:
            slab.add(_key(EMBEDDED), (0, tokens))

    return count_tokens


def _key(*parts: str) -> str:
    return _SEPARATOR.join(parts)


def totals() -> list[tuple[list[str], list[float]]]:
    """All counters: what each counts, its labels, and its numbers over all workers of a server, or in this process."""
    sums = _process.shared.totals() if _process.shared else {}
    return [(key.split(_SEPARATOR), numbers) for key, numbers in sorted(sums.items())]


def _slab() -> Slab | None:
    """Where this process counts; None where metrics are not enabled."""
    slab = _process.slab
    return slab if slab is not None and current_app.extensions[EXTENSION] else None
