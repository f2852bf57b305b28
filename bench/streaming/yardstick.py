"""The yardstick: how fast this machine is during this run, by what the bare Flask route costs on it.

Some targets are times of the machine that the prototypes ran on. The same route was measured there, too, so what
is measured here can be said at that machine's speed. The route takes a short turn in every round of those parts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.endpoints import hello_requests
from bench.load import LoadOrder, Measurement, measure
from bench.rounds import Spread
from bench.servers import HOST, Gunicorn
from bench.streaming.failures import Failures

REFERENCE_US = 216.0
"""CPU of one request to the route where the targets come from, asked by 16 connections as here."""

SECONDS = 1.0


@dataclass(frozen=True)
class YardstickRow:
    """What a request to the bare route cost, over all turns of the run."""

    turns: int
    server_us: Spread
    busy: Spread
    failed: int

    @property
    def slowness(self) -> float:
        """How many times as much CPU time this machine takes as the reference; less than 1 if it is faster."""
        return self.server_us.median / REFERENCE_US

    @property
    def met(self) -> None:
        """There is no target."""

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return "the yardstick"


class Yardstick:
    """The bare route, served on the services' core by a gunicorn with the same settings."""

    def __init__(self, server: Gunicorn, failures: Failures) -> None:
        self._server = server
        self._failures = failures
        self._measurements: list[Measurement] = []

    @property
    def turns(self) -> int:
        """How often it was measured."""
        return len(self._measurements)

    def take_turn(self) -> None:
        """Measure it once more."""
        port = self._server.port
        order = LoadOrder(
            host=HOST,
            port=port,
            requests=hello_requests(port),
            server_pids=[self._server.process.pid],
            database_pids=[],
            seconds=SECONDS,
        )
        measurement = measure(order)
        self._failures.add("the yardstick", measurement.failures)
        self._measurements.append(measurement)

    def row(self) -> YardstickRow:
        """What all turns brought."""
        return YardstickRow(
            turns=self.turns,
            server_us=Spread.over([one.server_us for one in self._measurements]),
            busy=Spread.over([one.server_cpu_s / one.seconds for one in self._measurements]),
            failed=sum(one.failed for one in self._measurements),
        )


@contextmanager
def running_yardstick(folder: Path, failures: Failures) -> Iterator[Yardstick]:
    """Serve the bare route in an empty folder; stop it with the block."""
    folder.mkdir()
    settings = {
        "APP_ENV": "development",
        "DATABASE_URL": "",
        "DATA_DIR": str(folder),
        "WORKER_CLASS": "threads",
    }
    with Gunicorn("bench.hello:app", ready_path="/hello", folder=folder, settings=settings) as server:
        yield Yardstick(server, failures)
