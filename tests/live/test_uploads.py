"""Uploads to a running service: many at once in little memory, slow ones, and ones that lie about their length."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.live.client import SETTINGS, Person, assert_problem, at_once, read_answer, wait_until
from tests.live.uploads import BOUNDARY, CLOSING, TYPE, opening, send_file
from tests.support.server import GunicornServer

MIB = 2**20
MAX_GROWTH_MIB = 50
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[GunicornServer]:
    """One worker, whose memory is looked at."""
    settings = SETTINGS | {
        "DATABASE_URL": database_url,
        "WEB_CONCURRENCY": "1",
        "CLIENT_RATE_BYTES": "1000000",
    }
    with GunicornServer(settings, migrate=False) as running:
        yield running


@pytest.fixture
def person(server: GunicornServer) -> Person:
    return Person(server)


def files_of(server: GunicornServer, person: Person) -> list[Path]:
    return list((Path(server.environment["DATA_DIR"]) / "files" / person.user["id"]).glob("*"))


def incoming(server: GunicornServer) -> list[Path]:
    return list((Path(server.environment["DATA_DIR"]) / "files" / "incoming").glob("*"))


def pattern(number: int, size_bytes: int) -> Iterator[bytes]:
    """A file of its own for each number, a MiB at a time."""
    for index in range(size_bytes // MIB):
        yield (b"%08d%08d" % (number, index)) * (MIB // 16)


class HighestMemory(threading.Thread):
    """Looks at the memory of the worker until it is stopped."""

    def __init__(self, server: GunicornServer) -> None:
        super().__init__(daemon=True)
        [self._worker] = [psutil.Process(pid) for pid in server.worker_pids()]
        self.first = self.highest = self._worker.memory_info().rss
        self._stop_event = threading.Event()

    def run(self) -> None:
        while not self._stop_event.wait(0.02):
            self.highest = max(self.highest, self._worker.memory_info().rss)

    def growth_mib(self) -> float:
        self._stop_event.set()
        self.join()
        return (self.highest - self.first) / MIB


@pytest.mark.parametrize("size_mib", [5, pytest.param(100, marks=pytest.mark.nightly)])
def test_twenty_parallel_uploads_take_little_memory(
    server: GunicornServer, person: Person, size_mib: int
) -> None:
    assert send_file(person, b"warm").status == 201
    size_bytes = size_mib * MIB
    memory = HighestMemory(server)
    memory.start()
    answers = at_once(
        [partial(send_file, person, pattern(number, size_bytes), size_bytes) for number in range(20)]
    )
    growth = memory.growth_mib()
    assert [answer.status for answer in answers] == [201] * 20
    for number in (0, 19):
        expected = hashlib.sha256()
        for chunk in pattern(number, size_bytes):
            expected.update(chunk)
        assert answers[number].body["sha256"] == expected.hexdigest()
    assert growth < MAX_GROWTH_MIB, f"{growth:.0f} MiB"


def test_the_same_content_in_parallel_is_one_file(server: GunicornServer, person: Person) -> None:
    answers = at_once([partial(send_file, person, b"the same" * 100_000)] * 16)
    assert [answer.status for answer in answers] == [201] * 16
    assert len({answer.body["id"] for answer in answers}) == 16
    assert len(files_of(server, person)) == 1
    paths = [answer.body["file_path"] for answer in answers]
    assert all(person.get(path).body == b"the same" * 100_000 for path in paths)


def test_deleted_files_are_removed_by_the_server(server: GunicornServer, person: Person) -> None:
    first, second = (send_file(person, b"shared").body for _ in range(2))
    assert person.delete(f"/chat/attachments/{first['id']}").status == 204
    time.sleep(4)  # as long as the thread takes to look again
    assert person.get(second["file_path"]).body == b"shared"
    assert person.delete(f"/chat/attachments/{second['id']}").status == 204
    wait_until(lambda: not files_of(server, person), what="the bytes are deleted")


def head_of(person: Person, *fields: str) -> bytes:
    lines = ["POST /chat/attachments HTTP/1.1", "Host: x", f"Content-Type: {TYPE}", *fields]
    return "\r\n".join([*lines, f"Authorization: Bearer {person.token}", "", ""]).encode()


def test_chunked_body_is_an_upload_and_its_malformed_end_is_none(
    server: GunicornServer, person: Person
) -> None:
    answer = send_file(person, [b"some ", b"text"])
    assert (answer.status, answer.body["size_bytes"]) == (201, 9)
    body = opening() + b"some text" + CLOSING
    for end in (b"zz\r\n", b"-1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            chunk = b"%x\r\n%b\r\n" % (len(body), body)
            connection.sendall(head_of(person, "Transfer-Encoding: chunked") + chunk + end)
            assert_problem(read_answer(connection), 400)
    wait_until(lambda: not incoming(server))


def test_client_that_expects_100_is_told_before_it_sends(server: GunicornServer, person: Person) -> None:
    body = opening() + b"expected text" + CLOSING
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head_of(person, f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert read_answer(connection).status == 201
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head_of(person, f"Content-Length: {10**10}", "Expect: 100-continue"))
        assert_problem(read_answer(connection), 413)  # and nothing of it was sent


@pytest.mark.parametrize("sent", [0, 10, 200_000])
def test_client_that_leaves_or_stops_leaves_nothing(
    server: GunicornServer, person: Person, sent: int
) -> None:
    body = opening() + b"x" * 1_000_000 + CLOSING
    head = head_of(person, f"Content-Length: {len(body)}")
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head + body[:sent])
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head + body[:sent])
        wait_until(lambda: incoming(server))
        connection.shutdown(socket.SHUT_WR)
        assert read_answer(connection).status == 400
    wait_until(lambda: not incoming(server))
    assert files_of(server, person) == []


@pytest.mark.nightly
def test_slow_upload_keeps_nobody_waiting_and_is_ended(server: GunicornServer, person: Person) -> None:
    """Their slowness is seen after half a minute."""
    body = opening() + b"x" * 1_000_000 + CLOSING
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(20)]
    try:
        for connection in slow:
            connection.sendall(head_of(person, f"Content-Length: {len(body)}") + body[:1000])
        wait_until(lambda: len(incoming(server)) == 20)
        conversation = person.conversation()
        assert person.say(conversation, "Nobody waits").status == 201
        assert send_file(person, b"not even another upload").status == 201
        answers = [read_answer(connection) for connection in slow]
    finally:
        for connection in slow:
            connection.close()
    assert {answer.status for answer in answers} == {408}
    wait_until(lambda: not incoming(server))


def test_more_uploads_than_one_user_may_send_at_once_are_429(server: GunicornServer, person: Person) -> None:
    head = head_of(person, "Content-Length: 1000000") + b"--" + BOUNDARY
    lines = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(32)]
    try:
        for connection in lines:
            connection.sendall(head)
        wait_until(lambda: len(incoming(server)) == 32)
        answer = send_file(person, b"one more")
        assert_problem(answer, 429)
        assert send_file(Person(server), b"of somebody else").status == 201
    finally:
        for connection in lines:
            connection.close()
    wait_until(lambda: not incoming(server))
    assert send_file(person, b"one more").status == 201
