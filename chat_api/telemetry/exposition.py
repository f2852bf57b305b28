"""Metrics in Prometheus' text format. Only /metrics needs prometheus-client, which takes 9 ms to import."""

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CollectorRegistry, CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from . import metrics

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition() -> bytes:
    """All metrics as text, over all workers of a server or of this process."""
    registry = CollectorRegistry()
    registry.register(_Totals())
    return generate_latest(registry)


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
        for (name, *labels), numbers in metrics.totals():
            if name == metrics.REQUESTS:
                requests.add_metric(labels, numbers[0])
            elif name == metrics.SECONDS:
                seconds.add_metric(labels, buckets=_cumulative(numbers), sum_value=numbers[metrics.SUM])
            elif name == metrics.EMBEDDED:
                embedded.add_metric(labels, numbers[0])
            else:
                completions.add_metric(labels, numbers[0])
        yield from (requests, seconds, completions, embedded)


def _cumulative(numbers: list[float]) -> list[tuple[str, float]]:
    """Prometheus' buckets contain those below them."""
    total, buckets = 0.0, []
    for bound, number in zip(metrics.BUCKETS, numbers, strict=False):
        total += number
        buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
    return buckets
