"""/metrics of a running service: only for the operator, and true over all workers."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.client import (
    Answer,
    all_workers,
    assert_problem,
    line_to_each_worker,
    serving,
    wait_until,
)
from tests.support.server import GunicornServer

TOKEN = "the operator's token"


@pytest.fixture(scope="module")
def server() -> Iterator[GunicornServer]:
    """Two workers that count."""
    with serving({"METRICS_TOKEN": TOKEN, "WEB_CONCURRENCY": "2"}) as running:
        yield running


def count_of(server: GunicornServer, route: str, status: int) -> float:
    """How many requests with this outcome the service says it has answered."""
    code, headers, body = server.request("GET", "/metrics", token=TOKEN)
    assert code == 200
    assert headers["Content-Type"].startswith("text/plain")
    line = re.search(
        rf'^chat_api_requests_total{{method="GET",route="{re.escape(route)}",status="{status}"}} (\S+)$',
        body.decode(),
        re.MULTILINE,
    )
    return float(line[1]) if line else 0.0


def test_the_page_does_not_exist_without_a_token_setting(three_workers: GunicornServer) -> None:
    assert_problem(Answer(*three_workers.request("GET", "/metrics")), 404)
    assert_problem(Answer(*three_workers.request("GET", "/metrics", token="any")), 404)


def test_the_page_needs_the_token(server: GunicornServer) -> None:
    for token in (None, "another", ""):
        answer = Answer(*server.request("GET", "/metrics", token=token))
        assert_problem(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_numbers_of_all_workers_are_added_up_and_survive_a_worker(server: GunicornServer) -> None:
    before = count_of(server, "/auth/me", 401)
    with line_to_each_worker(server) as lines:
        for line, count in zip(lines, (3, 5), strict=True):
            for _ in range(count):
                assert line.request("GET", "/auth/me").status == 401
    assert count_of(server, "/auth/me", 401) == before + 8
    victim = server.kill_worker()
    wait_until(lambda: victim not in all_workers(server))
    assert count_of(server, "/auth/me", 401) == before + 8


def test_a_reload_keeps_the_numbers_and_a_start_begins_at_zero(server: GunicornServer) -> None:
    server.request("GET", "/auth/me")
    old_workers = all_workers(server)
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: not set(old_workers) & set(all_workers(server)))
    assert count_of(server, "/auth/me", 401) >= 1
    assert not Path(server.environment["DATA_DIR"], "metrics").exists()  # no disk is needed to count
    server.restart()
    assert count_of(server, "/auth/me", 401) == 0
