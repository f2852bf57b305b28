"""Nobody can exhaust the service: a request costs what it brings, and others hardly notice.

A real gunicorn on both databases with production settings, an attacker, and a process that watches (`exhaustion.py`).
Each test prints its figures; `pytest -s` shows them.
"""

import time
from collections.abc import Iterator

import pytest

from tests.live.client import SETTINGS, Person
from tests.live.exhaustion import percentile, watching
from tests.support.server import GunicornServer


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[GunicornServer]:
    """The service with two workers, as on a machine with two cores."""
    settings = SETTINGS | {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "2", "THREADS": "8"}
    with GunicornServer(settings, migrate=False) as running:
        yield running


@pytest.fixture(scope="module")
def innocent(server: GunicornServer) -> Person:
    """Somebody who only wants to use the service."""
    return Person(server)


@pytest.fixture
def attacker(server: GunicornServer) -> Person:
    """A user of the test's own who means harm."""
    return Person(server)


def test_without_an_attack_nobody_waits(server: GunicornServer, innocent: Person) -> None:
    """The yardstick: what the watcher sees of an idle service."""
    with watching(server, innocent) as watch:
        time.sleep(1)
    assert not watch.failures
    assert percentile(watch.posts_s, 99) < 0.25
