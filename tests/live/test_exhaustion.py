"""Nobody can exhaust the service: a request costs what it brings, and others hardly notice.

A real gunicorn on both databases with production settings, an attacker, and a process that watches (`exhaustion.py`).
Each test prints its figures; `pytest -s` shows them.
"""

import time

from tests.live.client import Person
from tests.live.exhaustion import percentile, watching
from tests.support.server import GunicornServer


def test_without_an_attack_nobody_waits(server: GunicornServer, innocent: Person) -> None:
    """The yardstick: what the watcher sees of an idle service."""
    with watching(server, innocent) as watch:
        time.sleep(1)
    assert not watch.failures
    assert percentile(watch.posts_s, 99) < 0.25
