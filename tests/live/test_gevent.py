"""WORKER_CLASS=gevent: the same service, and nobody who waits makes others wait."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import psutil
import psycopg
import pytest

from tests.live.client import (
    Answer,
    Person,
    assert_problem,
    assert_tells_that_it_closes,
    assert_unavailable,
    at_once,
    read_answer,
    send_raw,
    serving,
    wait_until,
)
from tests.support.postgres import PrivatePostgres
from tests.support.server import GunicornServer
from tests.transfer.exports import conversation, file_of, message

pytestmark = pytest.mark.slow

BODY_LIMIT = 100_000
CONNECTIONS = 24
SETTINGS = {
    "WORKER_CLASS": "gevent",
    "WEB_CONCURRENCY": "1",
    "DATABASE_POOL_SIZE": str(CONNECTIONS),
    "DATABASE_WAIT_S": "20",
    "DATABASE_STATEMENT_TIMEOUT_S": "30",
    "MAX_BODY_BYTES": str(BODY_LIMIT),
}
SOON_S = 2.0  # for an answer that waits for nobody, on a slow machine
HEAD = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GET_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PrivatePostgres]:
    """A Postgres that may be stopped."""
    with PrivatePostgres(fsync="off") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server(postgres: PrivatePostgres) -> Iterator[GunicornServer]:
    """The service on it, with one worker: one event loop for everybody."""
    with serving(SETTINGS | {"DATABASE_URL": postgres.url}) as running:
        yield running


@pytest.fixture(scope="module")
def person(server: GunicornServer) -> Person:
    return Person(server)


def connect(postgres: PrivatePostgres) -> psycopg.Connection[Any]:
    return psycopg.connect(host=str(postgres.folder), user="postgres", dbname="postgres")


def test_the_api_works(person: Person) -> None:
    conversation_id = person.conversation()
    assert [person.say(conversation_id, text).body["position"] for text in "ab"] == [1, 2]
    assert [message["content"] for message in person.messages(conversation_id)] == ["a", "b"]
    assert (
        person.post("/chat/llm-providers", {"name": "P", "api_endpoint": "https://p.example/v1"}).status
        == 201
    )
    assert person.get("/auth/me").body["email"] == person.email


# -- waiting --------------------------------------------------------------------------------------------


def test_more_requests_than_connections_wait_for_each_other(person: Person) -> None:
    conversation_id = person.conversation()
    answers = at_once([lambda: person.say(conversation_id, "x")] * (3 * CONNECTIONS))
    assert sorted(answer.body["position"] for answer in answers) == list(range(1, 3 * CONNECTIONS + 1))


def test_an_import_stores_two_groups_at_once_without_stopping_others(
    postgres: PrivatePostgres, person: Person
) -> None:
    conversation_id = person.conversation()
    lines = []
    for _ in range(10):
        first = conversation()
        lines += [first, message(first, 1, content="word " * 30_000)]  # which fill a group
    headers = {"Content-Type": "application/x-ndjson"}
    body = file_of(*lines)
    send = partial(
        person.server.request, "POST", "/chat/import", token=person.token, headers=headers, body=body
    )
    with ThreadPoolExecutor(1) as pool:
        with connect(postgres) as blocker, connect(postgres) as observer:
            observer.autocommit = True
            blocker.execute("LOCK TABLE conversations IN SHARE MODE")
            request = pool.submit(send)
            waiting = lambda: observer.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()  # noqa: E731
            wait_until(lambda: waiting() == (2,), within_s=10, what="two groups wait in the database")
            started = time.monotonic()
            assert person.get(f"/chat/conversations/{conversation_id}").status == 200
            assert time.monotonic() - started < SOON_S
            assert waiting() == (2,)
        status, _, report = request.result()
    assert (status, report["conversations"]["imported"], report["errors"]) == (200, 10, [])


def test_passwords_are_hashed_beside_the_event_loop(server: GunicornServer, person: Person) -> None:
    """Hashing one takes 30 ms and more, in which no greenlet would get on."""
    server.restart()  # so that there is only the first thread
    worker = psutil.Process(server.worker_pids()[0])
    before = worker.num_threads()
    assert Answer(*server.request("POST", "/auth/login", person.credentials)).status == 200
    assert worker.num_threads() > before
    wrong = person.credentials | {"password": "not the password"}
    assert_problem(Answer(*server.request("POST", "/auth/login", wrong)), 401)


# -- faults ---------------------------------------------------------------------------------------------


def test_a_restart_of_postgres_is_survived(
    postgres: PrivatePostgres, server: GunicornServer, person: Person
) -> None:
    conversation_id = person.conversation()
    assert {answer.status for answer in at_once([lambda: person.say(conversation_id, "x")] * 6)} == {201}
    postgres.stop()
    postgres.start()
    answers = at_once([lambda: person.say(conversation_id, "x")] * 6)
    assert {answer.status for answer in answers} == {201}, "an ended connection is noticed, not tried"
    assert person.get("/auth/me").status == 200
    postgres.stop()
    assert_unavailable(person.say(conversation_id, "x"))
    assert_unavailable(person.get("/auth/me"))
    assert server.request("GET", "/healthz")[0] == 200
    postgres.start()
    wait_until(lambda: server.request("GET", "/readyz")[0] == 200, within_s=10)
    assert person.say(conversation_id, "x").status == 201
    assert len(person.messages(conversation_id)) == 13


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nno size\r\n{}\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}no end of the chunk", 400),
        (HEAD + b"Transfer-Encoding: unheard-of\r\n\r\n", 501),
        (HEAD + b'Content-Length: 100000000\r\n\r\n{"email": "', 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"2710\r\n" + b"x" * 10_000 + b"\r\n") * 11, 413),
    ],
)
def test_what_is_refused_is_refused_as_problem_json(
    server: GunicornServer, request_bytes: bytes, status: int
) -> None:
    assert_problem(send_raw(server.port, request_bytes), status)


def test_an_answer_says_that_its_connection_closes(server: GunicornServer) -> None:
    assert_tells_that_it_closes(server)


def test_a_client_that_goes_on_sending_gets_its_answer(server: GunicornServer) -> None:
    """Closed at once, with its bytes unread, the connection would be reset and the answer lost."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: 10000000\r\n\r\n")
        for _ in range(100):  # more than the kernel takes for a server that does not read
            connection.sendall(b"x" * 100_000)
        assert_problem(read_answer(connection), 413)


def test_clients_that_keep_their_connection_or_say_nothing_do_not_delay_others(
    server: GunicornServer,
) -> None:
    with ExitStack() as stack:
        for number in range(40):
            lazy = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            if number % 2:
                lazy.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert read_answer(lazy).status == 200
        started = time.monotonic()
        assert send_raw(server.port, GET_HEALTH).status == 200
        assert time.monotonic() - started < SOON_S


def test_a_large_page_reaches_a_slow_reader_whole(person: Person, server: GunicornServer) -> None:
    conversation_id = person.conversation()
    for _ in range(40):
        assert person.say(conversation_id, "x" * 90_000).status == 201
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", server.port))
        path = f"/chat/conversations/{conversation_id}/messages?limit=40".encode()
        connection.sendall(
            b"GET "
            + path
            + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
            + person.token.encode()
            + b"\r\n\r\n"
        )
        time.sleep(0.5)  # the worker has to wait for room
        answer = read_answer(connection)
    assert [len(message["content"]) for message in answer.body] == [90_000] * 40


# -- the end --------------------------------------------------------------------------------------------


def test_sigterm_lets_running_requests_end_and_does_not_wait_for_idle_connections(
    postgres: PrivatePostgres, server: GunicornServer, person: Person
) -> None:
    conversation_id = person.conversation()
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        idle = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
        idle.sendall(GET_HEALTH)
        assert read_answer(idle).status == 200
        with connect(postgres) as blocker, connect(postgres) as observer:
            observer.autocommit = True
            blocker.execute("SELECT 1 FROM conversations WHERE id = %s FOR UPDATE", [conversation_id])
            running = pool.submit(person.say, conversation_id, "still running")
            query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            wait_until(lambda: observer.execute(query).fetchone() == (1,), what="it waits in the database")
            stopping = pool.submit(server.terminate)
            assert idle.recv(1) == b"", "the idle connection is closed"
            assert not running.done()
            assert not stopping.done()
        assert running.result().status == 201
        assert stopping.result() == 0
    server.start()
    assert [message["content"] for message in person.messages(conversation_id)] == ["still running"]


def test_a_killed_master_takes_its_worker_along(server: GunicornServer) -> None:
    workers = server.kill_master_only()
    wait_until(lambda: not any(psutil.pid_exists(pid) and is_running(pid) for pid in workers), within_s=2)
    server.start()
    assert server.request("GET", "/healthz")[0] == 200


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
