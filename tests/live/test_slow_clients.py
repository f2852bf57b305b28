"""Clients that stop in the middle of a request, or send and read a byte now and then: nobody else waits for them."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.live.client import SETTINGS, Person, read_answer, wait_until
from tests.live.exhaustion import percentile, watching
from tests.support.server import GunicornServer

pytestmark = pytest.mark.nightly
THREADS, STREAMS = 4, 12


@pytest.fixture(scope="module", params=["threads", "gevent"])
def server(request: pytest.FixtureRequest, database_url: str) -> Iterator[GunicornServer]:
    """One worker with few threads, which are soon taken."""
    if request.param == "gevent" and database_url.startswith("sqlite"):
        pytest.skip("gevent needs Postgres")
    settings = SETTINGS | {
        "DATABASE_URL": database_url,
        "WEB_CONCURRENCY": "1",
        "WORKER_CLASS": request.param,
        "THREADS": str(THREADS),
        "MAX_STREAMS": str(STREAMS),
        "CLIENT_RATE_BYTES": "1000000",
    }
    with GunicornServer(settings, migrate=False) as running:
        yield running


@pytest.fixture(scope="module")
def slow(server: GunicornServer) -> list[Person]:
    return [Person(server) for _ in range(4)]


def head(path: str, person: Person | None, *fields: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *fields]
    if person is not None:
        lines.append(f"Authorization: Bearer {person.token}")
    return "\r\n".join([*lines, "", ""]).encode()


LARGE = 1024 * 1024
UNFINISHED = {
    "head": lambda person: head("/chat/messages", person)[:-4],
    "small body": lambda person: head("/auth/login", None, "Content-Length: 100") + b'{"email"',
    "large body": lambda person: (
        head("/chat/messages", person, f"Content-Length: {LARGE}") + b'{"content": "'
    ),
    "chunked body": lambda person: head("/chat/messages", person, "Transfer-Encoding: chunked") + b"5\r\n",
    "chunked body without a token": lambda person: (
        head("/auth/login", None, "Transfer-Encoding: chunked") + b"5\r\n"
    ),
    "expected body": lambda person: head(
        "/chat/messages", person, "Content-Length: 100", "Expect: 100-continue"
    ),
    "upload": lambda person: (
        head("/chat/import", person, f"Content-Length: {LARGE}").replace(b"json", b"x-ndjson") + b"{"
    ),
}


@pytest.mark.parametrize("kind", UNFINISHED)
def test_requests_that_never_end_keep_nobody_waiting(
    server: GunicornServer, innocent: Person, slow: list[Person], kind: str
) -> None:
    """More of them than there are threads for requests; uploads more than there are slots for exports."""
    with ExitStack() as stack:
        for number in range(THREADS * 2 + 4):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            connection.sendall(UNFINISHED[kind](slow[number % len(slow)]))
        with watching(server, innocent) as watch:
            time.sleep(1)
            exported = server.request("GET", "/chat/export", token=innocent.token)
            assert exported[0] == 200, exported
            imported = server.request(
                "POST",
                "/chat/import",
                token=innocent.token,
                headers={"Content-Type": "application/x-ndjson"},
                body=exported[2],
            )
            assert imported[0] == 200, imported
    assert not watch.failures
    assert percentile(watch.health_s, 99) < 0.5
    assert percentile(watch.posts_s, 99) < 1


@pytest.mark.parametrize("kind", ["large body", "upload"])
def test_body_that_drips_is_refused_with_408(server: GunicornServer, slow: list[Person], kind: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(UNFINISHED[kind](slow[0]))
        connection.settimeout(0.2)
        began = time.monotonic()
        while True:
            assert time.monotonic() - began < 40, "nobody has answered"
            try:
                connection.sendall(b" ")
                if connection.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                continue
        connection.settimeout(30)
        answer = read_answer(connection)
    assert (answer.status, answer.body["code"]) == (408, "request_timeout")
    assert time.monotonic() - began < 40


def test_client_that_does_not_read_is_cut_off(server: GunicornServer, innocent: Person) -> None:
    """Its thread and its slots are free again."""
    conversation = innocent.conversation()
    for _ in range(24):
        assert innocent.say(conversation, "x" * 1_000_000).status == 201
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.settimeout(60)
        connection.sendall(head("/chat/export", innocent, method="GET"))
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        began = time.monotonic()

        def is_cut_off() -> bool:
            return "connection closed: the client stalled" in server.log

        wait_until(is_cut_off, within_s=60, what="the export ends")
        assert time.monotonic() - began < 45
