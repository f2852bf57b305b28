"""Logins and registrations, as many as one address may send: other users hardly notice them.

Each case prints the innocent user's figures with `pytest -s`.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.live.client import SETTINGS, Answer, Person
from tests.live.exhaustion import percentile, watching
from tests.support.api import PASSWORD, new_email
from tests.support.server import GunicornServer

pytestmark = pytest.mark.nightly

CLIENTS, EACH = 48, 4
LONGEST_S = 0.25


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[GunicornServer]:
    settings = SETTINGS | {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "1", "THREADS": "8"}
    with GunicornServer(settings, migrate=False) as running:
        yield running


def log_in(attacker: Person) -> Answer:
    return attacker.post("/auth/login", attacker.credentials)


def fail_to_log_in(attacker: Person) -> Answer:
    return attacker.post("/auth/login", {"email": new_email(), "password": PASSWORD})


def register(attacker: Person) -> Answer:
    return attacker.post("/auth/register", {"email": new_email(), "password": PASSWORD})


def register_once(attacker: Person) -> Answer:
    """With an Idempotency-Key, so in a transaction that began before."""
    return attacker.post("/auth/register", {"email": new_email(), "password": PASSWORD}, key=new_email())


@pytest.mark.parametrize("action", [log_in, fail_to_log_in, register, register_once])
def test_many_passwords_at_the_same_time(
    server: GunicornServer, innocent: Person, attacker: Person, action: Callable[[Person], Answer]
) -> None:
    def send(_: int) -> set[int]:
        return {action(attacker).status for _ in range(EACH)}

    with ThreadPoolExecutor(CLIENTS) as pool, watching(server, innocent) as watch:
        statuses = set().union(*pool.map(send, range(CLIENTS)))
    assert statuses <= {200, 201, 401, 429}
    assert not watch.failures
    for times_s in (watch.health_s, watch.reads_s, watch.posts_s):
        # of so few requests the slowest alone says how busy the machine is
        assert percentile(times_s, 95) <= LONGEST_S, watch
