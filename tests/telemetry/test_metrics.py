"""The counters of /metrics: in memory that processes share, bounded, and true when one of them ends."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from chat_api.telemetry import exposition, metrics, shared_counters
from chat_api.telemetry.shared_counters import KEY_BYTES, RECORDS, SharedCounters


def in_process(action: Callable[[], None]) -> int:
    """Run in a forked process that then waits to be killed; its process id."""
    done, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os.write(ready, b"1")
            time.sleep(60)
        finally:
            os._exit(1)
    os.read(done, 1)
    os.close(done)
    os.close(ready)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_processes_add_to_the_same_sums_and_a_killed_one_leaves_its_part() -> None:
    counters = SharedCounters(2)
    numbers = [counters.reserve(), counters.reserve()]
    assert counters.reserve() is None
    pids = [
        in_process(lambda number=number: counters.slab(number).add("a", (0, 2), (15, 0.5)))  # type: ignore[misc]
        for number in numbers
    ]
    try:
        assert counters.totals() == {"a": [4.0, *[0.0] * 14, 1.0]}
    finally:
        for pid in pids:
            end(pid)
    for number in numbers:
        assert number is not None
        counters.release(number)
    assert counters.totals() == {"a": [4.0, *[0.0] * 14, 1.0]}


def test_a_released_slab_begins_at_zero_for_the_next_worker() -> None:
    counters = SharedCounters(1)
    for _ in range(3):
        number = counters.reserve()
        assert number is not None
        counters.slab(number).add("a", (0, 1))
        counters.release(number)
    assert counters.totals()["a"][0] == 3


def test_what_does_not_fit_is_not_counted_and_harms_nothing() -> None:
    counters = SharedCounters(1)
    slab = counters.slab(1)
    slab.add("x" * (KEY_BYTES + 1), (0, 1))
    for number in range(RECORDS + 10):
        slab.add(f"key {number}", (0, 1))
    slab.add("key 0", (0, 1))
    totals = counters.totals()
    assert len(totals) == RECORDS - 1
    assert totals["key 0"][0] == 2


def test_reading_does_not_wait_for_ever_for_a_master_that_was_stopped() -> None:
    counters = SharedCounters(1)
    counters.slab(1).add("a", (0, 1))
    counters._generation[0] = 1
    began = time.monotonic()
    assert counters.totals()["a"][0] == 1
    assert time.monotonic() - began < 5


def test_every_route_has_room_in_a_slab(app: Flask) -> None:
    """With each method and twelve statuses, which are more than any route responds with."""
    routes = {rule.rule for rule in app.url_map.iter_rules()}
    for route in routes:
        assert len(f"requests\x1foptions\x1f{route}\x1f500".encode()) <= KEY_BYTES, route
    operations = sum(len(rule.methods or ()) for rule in app.url_map.iter_rules())
    assert operations * (1 + 12) < shared_counters.RECORDS


def test_threads_of_a_process_without_a_master_lose_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_process", metrics._Process())
    slab_of = SharedCounters.slab

    def slowly(counters: SharedCounters, number: int) -> shared_counters.Slab:
        time.sleep(0.05)  # as long as it takes another thread to find no counters either
        return slab_of(counters, number)

    monkeypatch.setattr(SharedCounters, "slab", slowly)
    app = Flask(__name__)
    app.config["METRICS_TOKEN"] = "m" * 32
    metrics.init_app(app)

    def count(number: int) -> None:
        with app.app_context():
            metrics.count("GET", f"/{number}", 200, 0.1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    text = exposition.exposition().decode()
    for number in range(4):
        assert f'chat_api_requests_total{{method="GET",route="/{number}",status="200"}} 1.0' in text


def test_the_exposition_has_cumulative_buckets() -> None:
    numbers = [1.0, 2.0, *[0.0] * 12, 3.0, 40.5]
    buckets = dict(exposition._cumulative(numbers))
    assert (buckets["0.005"], buckets["0.01"], buckets["10.0"], buckets["+Inf"]) == (1, 3, 3, 6)
