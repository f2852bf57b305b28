"""Orders streams from a client that runs in a process of its own, and tells what came of them."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.load_client import percentile_ms
from bench.processes import LOAD_CORE, pin
from bench.servers import HOST
from bench.streaming.pace import Pace


@dataclass(frozen=True)
class StreamOrder:
    """Streams to open: which requests, the models they name, how many at once, how far apart.

    `peer` is who is asked, "service" or "provider". Every stream gets a connection of its own.
    """

    peer: str
    port: int
    requests: list[str]
    models: list[str]
    at_once: int
    start_gap_s: float = 0.0
    limit_s: float = 90.0
    host: str = HOST


@dataclass(frozen=True)
class StreamMeasurement:
    """What came of an order. Times to the first text count from before the connection is opened.

    `failed`: the indices of the streams that brought anything else than the provider's whole text and a good end.
    `late`: how long after the provider's own end a stream ended, counted from its first text.
    """

    streams: int
    failures: dict[str, int]
    failed: list[int]
    ttft_s: list[float]
    gap_p50_ms: float
    gap_p99_ms: float
    late_p99_ms: float
    deltas: int
    seconds: float
    most_at_once: int
    client_cpu_s: float
    refusals: list[dict[str, Any]] = field(default_factory=list)

    def ttft(self, share: float) -> float:
        """The time to the first text, in milliseconds, within which `share` of the streams had it."""
        return percentile_ms(sorted(self.ttft_s), share)


def stream(
    order: StreamOrder, watch: Callable[[str, float, int], None] = lambda event, at, client_pid: None
) -> StreamMeasurement:
    """Run the client once. `watch` hears of "all running" and "first ended", when that was, and who the client is."""
    client = subprocess.Popen(
        [sys.executable, "-m", "bench.streaming.stream_client"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if client.stdin is None or client.stdout is None:
        raise RuntimeError("the client has no pipes")
    pin([client.pid], LOAD_CORE)
    with client:
        client.stdin.write(json.dumps(asdict(order)))
        client.stdin.close()
        for line in client.stdout:
            said = json.loads(line)
            if said["event"] == "over":
                return StreamMeasurement(**said["account"])
            watch(said["event"], said["at"], client.pid)
    raise RuntimeError("the stream client failed; its own message stands above")


def direct_order(port: int, paces: Sequence[Pace], *, at_once: int, start_gap_s: float = 0.0) -> StreamOrder:
    """The same streams asked of the provider itself: what the machine and the client take alone."""
    return StreamOrder(
        "provider",
        port,
        [_direct_request(port, pace) for pace in paces],
        _models(paces),
        at_once,
        start_gap_s,
    )


def _direct_request(port: int, pace: Pace) -> str:
    body = json.dumps(
        {"model": pace.model, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    )
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )


def _models(paces: Sequence[Pace]) -> list[str]:
    return [pace.model for pace in paces]
