"""Downloads from a running service: clients that are slow or leave, logins that end, and links for a single use."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from tests.live.client import (
    CONNECTION_LOST,
    SETTINGS,
    Answer,
    Person,
    all_workers,
    at_once,
    wait_until,
)
from tests.live.uploads import send_file
from tests.support.server import GunicornServer

MIB = 2**20
LARGE_BYTES = 30 * MIB  # more than the sockets between the two hold
DOWNLOADS_OF_ONE_USER = 32  # see attachments/slots.py
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[GunicornServer]:
    """Two workers; a client that reads nothing is left alone for ten seconds."""
    settings = SETTINGS | {
        "DATABASE_URL": database_url,
        "WEB_CONCURRENCY": "2",
        "THREADS": "4",
        "CLIENT_RATE_BYTES": "10000000",
    }
    with GunicornServer(settings, migrate=False) as running:
        all_workers(running)
        yield running


@pytest.fixture
def person(server: GunicornServer) -> Person:
    return Person(server)


@pytest.fixture
def large(person: Person) -> dict[str, Any]:
    """An upload of which no MiB is like another."""
    answer = send_file(person, (b"%015d\n" % number * (MIB // 16) for number in range(30)), LARGE_BYTES)
    assert answer.status == 201, answer
    found: dict[str, Any] = answer.body
    return found


def link_to(person: Person, attachment: dict[str, Any], **options: Any) -> str:
    answer = person.post(f"/chat/attachments/{attachment['id']}/link", options)
    assert answer.status == 200, answer
    return str(answer.body["url"])


def begun(server: GunicornServer, path: str, token: str | None, *fields: str) -> socket.socket:
    """A connection on which the beginning of a download has been read."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    lines = [f"GET {path} HTTP/1.1", "Host: x", *fields]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def rest_of(connection: socket.socket) -> int:
    """How many bytes come before the end of the connection, or of the download."""
    count = 0
    try:
        while count < LARGE_BYTES and (chunk := connection.recv(MIB)):
            count += len(chunk)
    except CONNECTION_LOST:
        pass
    return count


def get(server: GunicornServer, path: str, **headers: str) -> Answer:
    return Answer(*server.request("GET", path, headers=headers))


def test_of_many_requests_with_a_link_for_a_single_use_one_gets_the_bytes(
    server: GunicornServer, person: Person
) -> None:
    attachment = send_file(person, b"for one").body
    for _ in range(5):
        url = link_to(person, attachment, single_use=True)
        answers = at_once([partial(get, server, url)] * 12)
        assert sorted(answer.status for answer in answers) == [200] + [401] * 11, answers
        assert [answer.body for answer in answers if answer.status == 200] == [b"for one"]
        assert get(server, url).status == 401


def test_clients_that_leave_in_the_middle_leave_nothing_and_come_back_for_the_rest(
    server: GunicornServer, person: Person, large: dict[str, Any]
) -> None:
    path = large["file_path"]
    for _ in range(DOWNLOADS_OF_ONE_USER * 2 + 4):  # more than may run at once, in each worker
        begun(server, path, person.token).close()

    def rest() -> Answer | None:
        headers = {"Range": f"bytes={10 * MIB}-", "If-Range": f'"{large["sha256"]}"'}
        answer = Answer(*server.request("GET", path, token=person.token, headers=headers))
        return answer if answer.status == 206 else None

    answer = wait_until(rest, what="the slots are free again")
    assert len(answer.body) == LARGE_BYTES - 10 * MIB
    assert answer.body.startswith(b"%015d\n" % 10)


def test_a_download_by_a_used_link_goes_on_with_another_one(
    server: GunicornServer, person: Person, large: dict[str, Any]
) -> None:
    url = link_to(person, large, single_use=True)
    begun(server, url, None).close()
    assert get(server, url, Range="bytes=100-").status == 401
    etag = f'"{large["sha256"]}"'
    again = link_to(person, large, single_use=True)
    answer = get(server, again, **{"Range": f"bytes={29 * MIB}-", "If-Range": etag})
    assert (answer.status, len(answer.body)) == (206, MIB)


@pytest.mark.parametrize("by", ["token", "link", "single use"])
def test_a_download_ends_with_the_login(
    server: GunicornServer, person: Person, large: dict[str, Any], by: str
) -> None:
    if by == "token":
        connection = begun(server, large["file_path"], person.token)
    else:
        connection = begun(server, link_to(person, large, single_use=by == "single use"), None)
    with connection:
        time.sleep(0.5)
        assert person.post("/auth/logout", None).status == 204
        time.sleep(3)  # longer than a download takes to look
        assert rest_of(connection) < LARGE_BYTES


def test_clients_that_read_nothing_keep_nobody_waiting_and_are_ended(
    server: GunicornServer, person: Person, large: dict[str, Any]
) -> None:
    other = Person(server)
    small = send_file(other, b"for another").body["file_path"]
    with ExitStack() as stack:
        slow = [stack.enter_context(begun(server, large["file_path"], person.token)) for _ in range(20)]
        conversation = other.conversation()
        for _ in range(20):
            began = time.monotonic()
            assert other.say(conversation, "Nobody waits").status == 201
            assert other.get(small).body == b"for another"
            assert time.monotonic() - began < 5
        time.sleep(14)  # the grace, and what it may wait for what was taken
        assert max(rest_of(connection) for connection in slow) < LARGE_BYTES
    assert len(person.get(large["file_path"]).body) == LARGE_BYTES


def test_a_download_that_has_begun_survives_the_deletion(
    server: GunicornServer, person: Person, large: dict[str, Any]
) -> None:
    with begun(server, large["file_path"], person.token) as connection:
        assert person.delete(f"/chat/attachments/{large['id']}").status == 204
        time.sleep(5)  # as long as the thread takes to remove the bytes
        assert rest_of(connection) >= LARGE_BYTES
    assert person.get(large["file_path"]).status == 404
