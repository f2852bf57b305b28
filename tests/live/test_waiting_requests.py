"""One user's requests that wait for a lock in the database: other users get connections, whoever serves."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from config import Config
from tests.live.client import Answer, Person, serving, wait_until
from tests.live.uploads import send_file
from tests.support.postgres import PrivatePostgres
from tests.support.server import GunicornServer

pytestmark = pytest.mark.slow

CONNECTIONS = 12
SENT = 2 * CONNECTIONS  # more than there are connections, or threads for requests that run
SOON_S = 2.0  # for an answer that waits for nobody, on a slow machine


@pytest.fixture(scope="module", params=["threads", "gevent"])
def worker_class(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(worker_class: str) -> Iterator[GunicornServer]:
    """The service with one worker, on a Postgres that has no locks of other tests."""
    settings = {
        "WORKER_CLASS": worker_class,
        "WEB_CONCURRENCY": "1",
        "THREADS": str(CONNECTIONS),
        "DATABASE_POOL_SIZE": str(CONNECTIONS),
        "DATABASE_WAIT_S": "20",
        "DATABASE_STATEMENT_TIMEOUT_S": "30",
    }
    with (
        PrivatePostgres(fsync="off") as postgres,
        serving(settings | {"DATABASE_URL": postgres.url}) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def share(worker_class: str) -> int:
    """How many requests of a user run at the same time."""
    return Config(
        WORKER_CLASS=worker_class, THREADS=CONNECTIONS, DATABASE_POOL_SIZE=CONNECTIONS
    ).requests_per_user


@contextmanager
def all_waiting(
    server: GunicornServer, share: int, lock: str, parameters: list[str], action: Callable[[], Answer]
) -> Iterator[None]:
    """Hold a lock, and have many requests of one user wait for it inside; all succeed when it is released."""
    url = server.environment["DATABASE_URL"].replace("+psycopg", "")
    with ThreadPoolExecutor(SENT) as pool:
        with psycopg.connect(url) as blocker, psycopg.connect(url, autocommit=True) as observer:
            blocker.execute(lock.encode(), parameters)
            requests = [pool.submit(action) for _ in range(SENT)]
            # those who wait for a row wait behind the first of them, so there is a lock for each
            count = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            waiting = lambda: (observer.execute(count).fetchone() or [0])[0]  # noqa: E731
            wait_until(lambda: waiting() >= share, within_s=10, what="a share waits in the database")
            time.sleep(0.2)  # for the others, if they had connections, too
            most = share + 1  # a background job of the service may wait for the same rows
            assert waiting() <= most < CONNECTIONS
            yield
            assert share <= waiting() <= most, "they waited all the time, or the test shows nothing"
        assert {request.result().status for request in requests} == {201}


def assert_answers_soon(person: Person, conversation_id: str) -> None:
    """They read and write, by compiled statements and by the session."""
    actions: list[Callable[[], Answer]] = [
        lambda: person.get(f"/chat/conversations/{conversation_id}"),
        lambda: person.say(conversation_id, "meanwhile"),
        lambda: person.get("/auth/me"),
        lambda: person.post("/chat/conversations", {"title": "T"}),
        lambda: person.get("/readyz"),
    ]
    for action in actions:
        started = time.monotonic()
        assert action().status in (200, 201)
        assert time.monotonic() - started < SOON_S


def test_requests_with_compiled_statements(server: GunicornServer, share: int) -> None:
    person, other = Person(server), Person(server)
    locked, free = person.conversation(), other.conversation()
    lock = "SELECT 1 FROM conversations WHERE id = %s FOR UPDATE"
    with all_waiting(server, share, lock, [locked], lambda: person.say(locked, "at last")):
        assert_answers_soon(other, free)
    assert [message["position"] for message in person.messages(locked)] == list(range(1, SENT + 1))


def test_requests_with_a_session(server: GunicornServer, share: int) -> None:
    person, other = Person(server), Person(server)
    provider = {"name": "P", "api_endpoint": "https://p.example/v1"}
    lock = "LOCK TABLE llm_providers IN SHARE MODE"
    with all_waiting(server, share, lock, [], lambda: person.post("/chat/llm-providers", provider)):
        assert_answers_soon(other, other.conversation())


def test_uploads_that_have_arrived(server: GunicornServer, share: int) -> None:
    """They wait for their bytes without a place, and are stored as requests that run."""
    person, other = Person(server), Person(server)
    content = b"\x00" + person.email.encode()  # no text, which would be extracted in the background
    assert send_file(person, content).status == 201
    lock = "SELECT 1 FROM stored_files WHERE user_id = %s FOR UPDATE"
    with all_waiting(server, share, lock, [person.user["id"]], lambda: send_file(person, content)):
        assert_answers_soon(other, other.conversation())
