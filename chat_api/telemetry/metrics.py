"""Metrics for Prometheus, summed over all workers; collected only where METRICS_TOKEN enables /metrics."""

import prometheus_client
from flask import Flask, current_app
from prometheus_client import CollectorRegistry, Counter, Histogram, multiprocess

EXTENSION = "chat_api.metrics"
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

# one per process, as prometheus-client requires, however many applications there are
_REQUESTS = Counter(
    "chat_api_requests_total",
    "Requests by method, route and response status.",
    ["method", "route", "status"],
    registry=None,
)
_SECONDS = Histogram(
    "chat_api_request_seconds",
    "Duration of requests in seconds, until the response begins.",
    ["method", "route"],
    registry=None,
)
_COMPLETIONS = Counter(
    "chat_api_completions_total", "Completions that ended, by status.", ["status"], registry=None
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def init_app(app: Flask) -> None:
    """Enable metrics where METRICS_TOKEN is set."""
    app.extensions[EXTENSION] = bool(app.config["METRICS_TOKEN"])


def count(method: str, route: str | None, status: int, duration_s: float) -> None:
    """Count a request. Labels are routes, never paths, so clients can't increase their number."""
    if not current_app.extensions[EXTENSION]:
        return
    method, route = (method if method in _METHODS else "other"), route or "none"
    _REQUESTS.labels(method, route, status).inc()
    _SECONDS.labels(method, route).observe(duration_s)


def count_completion(status: str) -> None:
    """Count a completion that ended."""
    if current_app.extensions[EXTENSION]:
        _COMPLETIONS.labels(status).inc()


def exposition() -> bytes:
    """All metrics as text, over all workers (PROMETHEUS_MULTIPROC_DIR is set) or of this process."""
    registry = CollectorRegistry()
    if prometheus_client.values.ValueClass.__name__ == "MmapedValue":
        multiprocess.MultiProcessCollector(registry)
    else:
        registry.register(_REQUESTS)
        registry.register(_SECONDS)
        registry.register(_COMPLETIONS)
    return prometheus_client.generate_latest(registry)
