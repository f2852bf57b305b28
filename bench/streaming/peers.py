"""The processes around the service under test, on the load generator's core: the paced provider and the probe."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from bench.load_client import percentile_ms
from bench.processes import LOAD_CORE, pin
from bench.servers import HOST

PROBES_PER_S = 50


@dataclass(frozen=True)
class Provider:
    """The provider that streams at a set pace."""

    port: int
    pid: int

    @property
    def endpoint(self) -> str:
        """What to register as `api_endpoint`."""
        return f"http://{HOST}:{self.port}/v1"


@contextmanager
def running_provider() -> Iterator[Provider]:
    """Start the provider; end it with the block."""
    process = _start("bench.streaming.provider")
    with process:
        try:
            yield Provider(int(process.stdout.readline()), process.pid)
        finally:
            process.stdin.close()


@dataclass(frozen=True)
class Latencies:
    """What a probe's requests took in some stretch of time."""

    count: int
    p50_ms: float
    p99_ms: float
    failures: dict[str, int]


class Probe:
    """A client that sends one GET again and again at a steady rate, until it is asked what came of it."""

    def __init__(self, port: int, request: str) -> None:
        self._process = _start("bench.streaming.probe")
        self.pid = self._process.pid
        order = {"host": HOST, "port": port, "request": request, "rate": PROBES_PER_S}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._answers: list[tuple[float, float, str]] = []

    def stop(self) -> None:
        """End it and take in its account."""
        text, _ = self._process.communicate()
        if self._process.returncode != 0:
            raise RuntimeError("the probe failed; its own message stands above")
        self._answers = json.loads(text)

    def between(self, start: float, end: float) -> Latencies:
        """What was sent between two moments of `time.monotonic`."""
        inside = [one for one in self._answers if start <= one[0] < end]
        failures: dict[str, int] = {}
        for _at, _seconds, status in inside:
            if not status.startswith("2"):
                failures[status] = failures.get(status, 0) + 1
        taken = sorted(seconds for _at, seconds, _status in inside)
        return Latencies(len(taken), percentile_ms(taken, 0.50), percentile_ms(taken, 0.99), failures)


class _Piped(subprocess.Popen[str]):
    """A process whose stdin and stdout are pipes, which its type says too."""

    stdin: IO[str]
    stdout: IO[str]


def _start(module: str) -> _Piped:
    process = _Piped(
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    pin([process.pid], LOAD_CORE)
    return process
