"""Exports and imports of a running service: as large as one likes in the same memory, and cut off at any time."""

import http.client
import os
import random
import shutil
import signal
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from tests.live.client import (
    CONNECTION_LOST,
    SETTINGS,
    Answer,
    Person,
    all_workers,
    assert_problem,
    assert_unavailable,
    serving,
    wait_until,
)
from tests.support.postgres import PrivatePostgres
from tests.support.server import GunicornServer
from tests.transfer.exports import NDJSON, Line, chain, content_line, conversation, file_of, zip_of

pytestmark = pytest.mark.nightly

MIB = 1024 * 1024
CONVERSATIONS, MESSAGES, CONTENT = 100, 100, "x" * 10 * 1024  # 100 MB in all
MOST_GROWTH_MIB = 60
PATIENCE_S = 100.0


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[GunicornServer]:
    settings = {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "1"}
    with GunicornServer(SETTINGS | settings, migrate=False) as running:
        yield running


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of 100 MB."""
    path = tmp_path_factory.mktemp("export") / "large.ndjson"
    path.write_bytes(file_of(*(line for _ in range(CONVERSATIONS) for line in talk(MESSAGES, CONTENT))))
    return path


FILES, FILE_MIB = 5, 20


@pytest.fixture(scope="module")
def zip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip with files of 100 MB."""
    path = tmp_path_factory.mktemp("export") / "large.zip"
    lines = talk(FILES, "x")
    both = [lines[0]]
    with zipfile.ZipFile(path, "w") as archive:
        for number, said in enumerate(lines[1:]):
            content = random.Random(number).randbytes(MIB) * FILE_MIB
            line = content_line(said, content)
            both += [said, line]
            archive.writestr(line["path"], content)
        archive.writestr("export.ndjson", file_of(*both))
    return path


def test_memory_does_not_grow_with_the_files(server: GunicornServer, zip_file: Path, tmp_path: Path) -> None:
    [worker] = all_workers(server)
    warm_up, person, other = Person(server), Person(server), Person(server)
    small = tmp_path / "small.zip"
    small.write_bytes(zip_of({"export.ndjson": file_of(*talk(2, CONTENT))}))
    assert import_file(warm_up, small).status == 200
    assert warm_up.get("/chat/export/zip").status == 200

    with PeakMemory(worker) as memory:
        answer = import_file(person, zip_file)
    assert answer.body["files"]["imported"] == FILES, answer
    print(f"import of files: {memory.growth_mib:.0f} MiB more")
    assert memory.growth_mib < MOST_GROWTH_MIB

    copy = tmp_path / "copy.zip"
    with PeakMemory(worker) as memory:
        connection, response = begin_export(person, "/chat/export/zip")
        with connection, response, copy.open("wb") as out:
            assert response.status == 200
            shutil.copyfileobj(response, out)
    print(f"export of files: {memory.growth_mib:.0f} MiB more")
    assert memory.growth_mib < MOST_GROWTH_MIB
    assert import_file(other, copy).body["files"]["imported"] == FILES

    # of one that nobody takes nothing more is read
    connection, response = begin_export(person, "/chat/export/zip")
    with connection, response, PeakMemory(worker) as memory:
        response.read(100)
        time.sleep(1)
    assert memory.growth_mib < MOST_GROWTH_MIB


def talk(length: int, content: str) -> list[Line]:
    """The lines of a conversation that says the same again and again."""
    first = conversation(last_position=length)
    return [first, *({**line, "content": content} for line in chain(first, length))]


def import_file(person: Person, path: Path) -> Answer:
    """Send a file as it is on disk."""
    connection = http.client.HTTPConnection("127.0.0.1", person.server.port, timeout=PATIENCE_S)
    headers = {
        "Authorization": f"Bearer {person.token}",
        "Content-Type": NDJSON,
        "Content-Length": str(path.stat().st_size),
    }
    try:
        with path.open("rb") as content:
            connection.request("POST", "/chat/import", content, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, orjson.loads(response.read()))
    finally:
        connection.close()


def begin_export(
    person: Person, path: str = "/chat/export"
) -> tuple[socket.socket, http.client.HTTPResponse]:
    """An export of which nothing but the head is read. Little of it is on its way, as the buffer is small."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    connection.settimeout(PATIENCE_S)
    connection.connect(("127.0.0.1", person.server.port))
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {person.token}\r\n\r\n".encode()
    )
    response = http.client.HTTPResponse(connection)
    response.begin()
    return connection, response


class PeakMemory:
    """The most memory that a process has at any time of the block, in MiB more than when it began."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._before = self._most = self._process.memory_info().rss

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def growth_mib(self) -> float:
        return (self._most - self._before) / MIB

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self._most = max(self._most, self._process.memory_info().rss)


def test_memory_does_not_grow_with_the_account(server: GunicornServer, file: Path, tmp_path: Path) -> None:
    [worker] = all_workers(server)
    warm_up, person = Person(server), Person(server)
    small = tmp_path / "small.ndjson"
    small.write_bytes(file_of(*talk(200, CONTENT)))
    assert import_file(warm_up, small).status == 200
    assert warm_up.get("/chat/export").status == 200

    began = time.monotonic()
    with PeakMemory(worker) as memory:
        answer = import_file(person, file)
    assert answer.body["messages"]["imported"] == CONVERSATIONS * MESSAGES, answer
    print(f"import: {memory.growth_mib:.0f} MiB more in {time.monotonic() - began:.1f} s")
    assert memory.growth_mib < MOST_GROWTH_MIB

    began, count, size_bytes = time.monotonic(), 0, 0
    with PeakMemory(worker) as memory:
        connection, response = begin_export(person)
        with connection, response:
            assert response.status == 200
            assert "Content-Length" not in response.headers
            for line in response:
                count += line.startswith(b'{"type":"message"')
                size_bytes += len(line)
    assert line.startswith(b'{"type":"end"')
    assert (count, size_bytes > 100 * MIB) == (CONVERSATIONS * MESSAGES, True)
    print(f"export: {memory.growth_mib:.0f} MiB more in {time.monotonic() - began:.1f} s")
    assert memory.growth_mib < MOST_GROWTH_MIB

    # it is sent as it is read: of one that nobody takes the beginning comes, and the rest is not made
    connection, response = begin_export(person)
    with connection, response, PeakMemory(worker) as memory:
        assert orjson.loads(response.readline())["type"] == "export"
        others, another = begin_export(person), begin_export_refused(person)
        assert_problem(another, 429)
        time.sleep(1)
    assert memory.growth_mib < MOST_GROWTH_MIB
    others[1].close()
    others[0].close()
    # both have gone: their places are free again
    wait_until(lambda: export_status(person) == 200, within_s=20, what="a place for an export")


def begin_export_refused(person: Person) -> Answer:
    connection, response = begin_export(person)
    with connection, response:
        return Answer(response.status, response.headers, orjson.loads(response.read()))


def export_status(person: Person) -> int:
    connection, response = begin_export(person)
    with connection, response:
        return response.status


def test_import_that_was_interrupted_is_completed_by_the_next_one(
    server: GunicornServer, tmp_path: Path
) -> None:
    person = Person(server)
    path = tmp_path / "export.ndjson"
    lines = [line for _ in range(300) for line in talk(20, "Hello")]
    path.write_bytes(file_of(*lines))
    outcome: list[Answer | BaseException] = []

    def run() -> None:
        try:
            outcome.append(import_file(person, path))
        except (*CONNECTION_LOST, orjson.JSONDecodeError) as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: person.get("/chat/conversations?limit=3").body[2:], what="some are there")
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    thread.join(PATIENCE_S)
    assert isinstance(outcome[0], Exception), outcome
    wait_until(lambda: export_is_answered(person), what="another worker")
    there = exported_lines(person)
    stored = {line["id"] for line in there if line["type"] == "conversation"}
    assert 3 <= len(stored) < 300
    assert [line["id"] for line in there if line["type"] == "message"] == [
        line["id"] for line in lines if line["type"] == "message" and line["conversation_id"] in stored
    ]  # whole ones

    answer = import_file(person, path)
    assert not answer.body["errors"]
    assert answer.body["conversations"] == {
        "imported": 300 - len(stored),
        "updated": 0,
        "unchanged": len(stored),
        "failed": 0,
    }
    kinds = ("conversation", "message")
    assert [line["id"] for line in exported_lines(person) if line["type"] in kinds] == [
        line["id"] for line in sorted(lines, key=conversation_id_of)
    ]


def conversation_id_of(line: Line) -> str:
    return str(line.get("conversation_id", line["id"]))


def export_is_answered(person: Person) -> bool:
    try:
        return export_status(person) == 200
    except CONNECTION_LOST:
        return False


def exported_lines(person: Person) -> list[Line]:
    answer = person.get("/chat/export")
    assert answer.status == 200, answer
    return [orjson.loads(line) for line in answer.body.splitlines()]


def test_database_that_goes_away_ends_both(tmp_path: Path) -> None:
    """An import is answered 503; an export breaks off without its last line, as it has begun already."""
    path = tmp_path / "export.ndjson"
    path.write_bytes(file_of(*(line for _ in range(20) for line in talk(100, CONTENT))))
    with PrivatePostgres(max_connections="16", fsync="off") as postgres:
        settings = {"DATABASE_URL": postgres.url, "WEB_CONCURRENCY": "1", "DATABASE_WAIT_S": "1"}
        with serving(settings) as server:
            person = Person(server)
            assert import_file(person, path).status == 200
            connection, response = begin_export(person)
            with connection, response:
                assert response.readline()
                postgres.stop()
                assert_unavailable(import_file(person, path))
                with pytest.raises(CONNECTION_LOST):
                    response.read()
            postgres.start()
            wait_until(lambda: person.get("/readyz").status == 200, what="it is back")
            assert exported_lines(person)[-1] == {"type": "end", "conversations": 20, "messages": 2000}
            assert import_file(person, path).body["conversations"]["unchanged"] == 20
