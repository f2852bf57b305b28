"""What the exhaustion tests share: somebody who attacks, and a process that watches what others notice of it.

The watcher asks /healthz, reads and posts as an innocent user, several times a second, and reads the workers' memory
and descriptors. Bounds in tests are ratios to the same watch without an attack, or figures that the issue promises.
"""

import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from multiprocessing.connection import Connection
from typing import Any

import psutil

from tests.live.client import Person
from tests.support.server import GunicornServer

EVERY_S = 0.05  # between two rounds of the watcher


@dataclass
class Watch:
    """What an innocent user and an operator saw. Times are in seconds, in the order in which they were taken."""

    health_s: list[float] = field(default_factory=list)
    reads_s: list[float] = field(default_factory=list)
    posts_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # anything but 200 and 201
    rss_bytes: list[int] = field(default_factory=list)  # of all workers together
    descriptors: list[int] = field(default_factory=list)
    cpu_s: float = 0.0  # of all workers, over the whole watch

    @property
    def rss_growth_mib(self) -> float:
        """How far the workers' memory rose above where it began."""
        return (max(self.rss_bytes) - self.rss_bytes[0]) / 2**20

    def __str__(self) -> str:
        return (
            f"health p99 {percentile(self.health_s, 99):.3f} s, GET p99 {percentile(self.reads_s, 99):.3f} s, "
            f"POST p99 {percentile(self.posts_s, 99):.3f} s of {len(self.posts_s)}, {len(self.failures)} failures, "
            f"RSS +{self.rss_growth_mib:.0f} MiB, {self.cpu_s:.1f} s of CPU"
        )


def percentile(values: list[float], percent: float) -> float:
    """The nearest-rank percentile; infinity for no values, so that a watch that saw nothing fails."""
    if not values:
        return float("inf")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(len(ordered) * percent / 100))]


@contextmanager
def watching(server: GunicornServer, innocent: Person, *, warm_up_s: float = 0.5) -> Iterator[Watch]:
    """Watch the server during the block; the figures are there when it ends."""
    watch = Watch()
    conversation_id = innocent.conversation()
    mine, its = multiprocessing.Pipe()
    arguments = (its, server.port, innocent.token, conversation_id, server.worker_pids())
    process = multiprocessing.get_context("spawn").Process(target=_watch, args=arguments, daemon=True)
    process.start()
    mine.recv()  # it has begun
    time.sleep(warm_up_s)
    try:
        yield watch
    finally:
        mine.send("end")
        watch.__dict__.update(mine.recv())
        process.join()
        print(watch)  # shown for a test that fails, or with -s


def _watch(pipe: Connection, port: int, token: str, conversation_id: str, workers: list[int]) -> None:
    watch = Watch()
    processes = [psutil.Process(pid) for pid in workers]
    began_cpu_s = _cpu_s(processes)
    client = _Client(port, token)
    post = {"conversation_id": conversation_id, "role": "user", "content": "Is anybody there?"}
    pipe.send("begun")
    while not pipe.poll(0):
        client.time(watch.health_s, watch.failures, "GET", "/healthz")
        client.time(watch.reads_s, watch.failures, "GET", f"/chat/conversations/{conversation_id}")
        client.time(watch.posts_s, watch.failures, "POST", "/chat/messages", post)
        watch.rss_bytes.append(sum(process.memory_info().rss for process in processes))
        watch.descriptors.append(sum(process.num_fds() for process in processes))
        time.sleep(EVERY_S)
    watch.cpu_s = _cpu_s(processes) - began_cpu_s
    pipe.send(watch.__dict__)


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


class _Client:
    """One connection to the server, made again where it was lost."""

    def __init__(self, port: int, token: str) -> None:
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection = HTTPConnection("127.0.0.1", port, timeout=120)

    def time(self, times: list[float], failures: list[str], method: str, path: str, body: Any = None) -> None:
        """Send one request and note how long it took, or how it failed."""
        began = time.perf_counter()
        try:
            self._connection.request(
                method, path, None if body is None else json.dumps(body).encode(), self._headers
            )
            response = self._connection.getresponse()
            content = response.read()
            if response.status not in (200, 201):
                failures.append(f"{method} {path}: {response.status} {content[:200]!r}")
        except (OSError, HTTPException) as error:
            failures.append(f"{method} {path}: {error!r}")
            self._connection.close()
        times.append(time.perf_counter() - began)


def cpu_of(server: GunicornServer) -> float:
    """Seconds of CPU that the workers have used so far."""
    return _cpu_s([psutil.Process(pid) for pid in server.worker_pids()])
