"""Orders load from a generator that runs in a process of its own, on another core than the server."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass

from bench.processes import LOAD_CORE, pin

CONNECTIONS = 16
WARM_UP_S = 0.3


@dataclass(frozen=True)
class LoadOrder:
    """What to send where, one request per connection, and whose CPU time to read around the window."""

    host: str
    port: int
    requests: list[str]
    server_pids: list[int]
    database_pids: list[int]
    seconds: float
    warm_up_s: float = WARM_UP_S


@dataclass(frozen=True)
class Measurement:
    """What one window of load brought."""

    requests: int
    seconds: float
    server_cpu_s: float
    database_cpu_s: float
    generator_cpu_s: float
    p50_ms: float
    p99_ms: float
    body_bytes: int
    reconnects: int
    failures: dict[str, int]

    @property
    def failed(self) -> int:
        """Requests without a 2xx answer, those of the warm-up included."""
        return sum(self.failures.values())

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def server_us(self) -> float:
        """CPU time of the server's processes per request, in microseconds."""
        return self.server_cpu_s / max(self.requests, 1) * 1e6

    @property
    def database_us(self) -> float:
        """CPU time of the database server's processes per request, in microseconds."""
        return self.database_cpu_s / max(self.requests, 1) * 1e6

    @property
    def total_us(self) -> float:
        """CPU time of server and database together per request, in microseconds."""
        return self.server_us + self.database_us


def measure(order: LoadOrder) -> Measurement:
    """Run the generator once and wait for its account."""
    generator = subprocess.Popen(
        [sys.executable, "-m", "bench.load_client"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pin([generator.pid], LOAD_CORE)
    answer, _ = generator.communicate(json.dumps(asdict(order)))
    if generator.returncode != 0:
        raise RuntimeError("the load generator failed; its own message stands above")
    return Measurement(**json.loads(answer))
