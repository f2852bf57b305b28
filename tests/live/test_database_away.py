"""The database is away, hangs, is locked or full: 503 in time, nothing half-stored, and back by itself."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.live.client import (
    Answer,
    Person,
    assert_unavailable,
    at_once,
    serving,
    wait_until,
)
from tests.support.postgres import PrivatePostgres
from tests.support.server import GunicornServer

pytestmark = pytest.mark.slow

WAIT_S = (
    1  # DATABASE_WAIT_S of these servers; a new connection may take a second more, that is libpq's minimum
)
STATEMENT_TIMEOUT_S = 2
LONGEST_ANSWER_S = 10
SHORT_WAITS = {
    "DATABASE_WAIT_S": str(WAIT_S),
    "DATABASE_STATEMENT_TIMEOUT_S": str(STATEMENT_TIMEOUT_S),
    "THREADS": "8",
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PrivatePostgres]:
    """A Postgres that takes few connections and may be stopped."""
    with PrivatePostgres(max_connections="16", fsync="off") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def service(postgres: PrivatePostgres) -> Iterator[GunicornServer]:
    """The service on that Postgres, with one worker."""
    with serving(SHORT_WAITS | {"DATABASE_URL": postgres.url, "WEB_CONCURRENCY": "1"}) as server:
        yield server


@pytest.fixture(scope="module")
def person(service: GunicornServer) -> Person:
    return Person(service)


class Load:
    """Threads that read and write all the time, and note every answer and how long it took."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.conversation_id = person.conversation()
        self.answers: list[tuple[Answer, float]] = []
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        path = f"/chat/conversations/{self.conversation_id}"
        user_id = person.user["id"]
        actions: list[Callable[[int], Answer]] = [
            lambda number: person.say(self.conversation_id, "with a key", key=f"{id(self)} {number}"),
            lambda number: person.say(self.conversation_id, "without a key"),
            lambda number: person.get(path),
            lambda number: person.get(f"{path}/messages?limit=2"),
            lambda number: person.post("/chat/conversations", {"user_id": user_id, "title": "T"}),
            lambda number: person.get("/auth/me"),
        ]
        self._threads = [threading.Thread(target=self._run, args=[action], daemon=True) for action in actions]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        self.wait_for_every_kind(200, 201)
        return self

    def __exit__(self, *details: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_every_kind(self, *statuses: int) -> None:
        """Wait until there are many new answers, and the last ones all have one of these statuses."""
        before, count = len(self.answers), 5 * len(self._threads)
        wait_until(
            lambda: (
                len(self.answers) > before + count
                and {a.status for a, _ in self.answers[-count:]} <= set(statuses)
            ),
            what=f"statuses {statuses}",
        )

    def _run(self, action: Callable[[int], Answer]) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            started = time.monotonic()
            try:
                answer = action(number)
            except BaseException as error:  # for the main thread to raise
                self.errors.append(error)
                return
            self.answers.append((answer, time.monotonic() - started))
            if answer.status == 503:
                time.sleep(0.02)


@contextmanager
def stopped(postgres: PrivatePostgres) -> Iterator[None]:
    """SIGSTOP all processes of a cluster: connections stay open and nobody answers."""
    postmaster = psutil.Process(int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0]))
    postmaster.suspend()
    processes = [postmaster, *postmaster.children(recursive=True)]
    try:
        for process in processes:
            process.suspend()
        yield
    finally:
        for process in reversed(processes):
            process.resume()


def test_a_stopped_postgres_is_503_and_the_service_recovers_by_itself(
    postgres: PrivatePostgres, service: GunicornServer, person: Person
) -> None:
    with Load(person) as load:
        postgres.stop()
        load.wait_for_every_kind(503)
        assert_unavailable(Answer(*service.request("GET", "/readyz")))
        assert service.request("GET", "/healthz")[0] == 200
        postgres.start()
        wait_until(lambda: service.request("GET", "/readyz")[0] == 200, within_s=10)
        load.wait_for_every_kind(200, 201)
    assert not load.errors
    assert {answer.status for answer, _ in load.answers} == {200, 201, 503}
    for answer, duration_s in load.answers:
        assert duration_s < LONGEST_ANSWER_S
        if answer.status == 503:
            assert_unavailable(answer)
    positions = [message["position"] for message in person.messages(load.conversation_id)]
    assert positions == list(range(1, len(positions) + 1))


def test_the_first_write_after_a_quiet_restart_is_stored(
    postgres: PrivatePostgres, service: GunicornServer, person: Person
) -> None:
    conversation_id = person.conversation()
    assert {answer.status for answer in at_once([lambda: person.say(conversation_id, "before")] * 6)} == {201}
    postgres.stop()
    postgres.start()
    answers = at_once([lambda: person.say(conversation_id, "after")] * 6)
    for answer in answers:  # a connection that was left open is noticed, not tried
        assert answer.status == 201, answer
    assert len(person.messages(conversation_id)) == 12
    assert person.post("/chat/conversations", {"user_id": person.user["id"], "title": "T"}).status == 201


def test_a_hanging_postgres_is_503_within_the_timeouts(
    postgres: PrivatePostgres, service: GunicornServer, person: Person
) -> None:
    conversation_id = person.conversation()
    at_once([lambda: person.say(conversation_id, "warm up")] * 6)

    def timed() -> tuple[Answer, float]:
        started = time.monotonic()
        return person.say(conversation_id, "into the void"), time.monotonic() - started

    with stopped(postgres):
        # twice: in the second round every thread also finds its copy of the ended logins too old
        for answer, duration_s in [*at_once([timed] * 6), *at_once([timed] * 6)]:
            assert_unavailable(answer)
            assert duration_s < LONGEST_ANSWER_S
        assert service.request("GET", "/healthz")[0] == 200
    wait_until(lambda: person.say(conversation_id, "back").status == 201, within_s=10)
    wait_until(lambda: person.get("/auth/me").status == 200, within_s=10)


def test_a_locked_conversation_is_503_and_the_others_go_on(postgres: PrivatePostgres, person: Person) -> None:
    locked, free = person.conversation(), person.conversation()
    with psycopg.connect(host=str(postgres.folder), user="postgres", dbname="postgres") as blocker:
        blocker.execute("SELECT 1 FROM conversations WHERE id = %s FOR UPDATE", [locked])
        started = time.monotonic()
        blocked, *others = at_once(
            [lambda: person.say(locked, "blocked")] + [lambda: person.say(free, "free")] * 4
        )
        with_key = person.say(locked, "blocked", key="1")
        assert time.monotonic() - started < LONGEST_ANSWER_S
        assert_unavailable(blocked)
        assert_unavailable(with_key)
        assert {answer.status for answer in others} == {201}
        assert person.get(f"/chat/conversations/{locked}").status == 200
    assert person.say(locked, "blocked", key="1").status == 201
    assert [message["content"] for message in person.messages(locked)] == ["blocked"]


def test_more_blocked_requests_than_connections_are_503_in_time(
    postgres: PrivatePostgres, person: Person
) -> None:
    locked = person.conversation()
    with psycopg.connect(host=str(postgres.folder), user="postgres", dbname="postgres") as blocker:
        blocker.execute("SELECT 1 FROM conversations WHERE id = %s FOR UPDATE", [locked])
        started = time.monotonic()
        for answer in at_once([lambda: person.say(locked, "blocked")] * 8):
            assert_unavailable(answer)
        assert time.monotonic() - started < LONGEST_ANSWER_S
        assert person.get(f"/chat/conversations/{locked}").status == 200
    assert person.messages(locked) == []


def test_a_postgres_without_a_free_connection_is_503(
    postgres: PrivatePostgres, service: GunicornServer
) -> None:
    newcomer = Person(service)
    conversation_id = newcomer.conversation()
    service.restart()  # it holds no connection now
    hogs: list[psycopg.Connection] = []
    try:
        wait_until(lambda: not _takes_one_more(postgres, hogs), what="all connections are taken")
        # also those that the service's own threads have opened since
        mine = (
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'chat-api'"
        )
        hogs[0].execute(mine)
        wait_until(lambda: not _takes_one_more(postgres, hogs), what="these are taken, too")
        for answer in at_once([lambda: newcomer.say(conversation_id, "no room")] * 4):
            assert_unavailable(answer)
        assert_unavailable(newcomer.get("/auth/me"))
        assert_unavailable(Answer(*service.request("GET", "/readyz")))
    finally:
        for hog in hogs:
            hog.close()
    wait_until(lambda: newcomer.say(conversation_id, "room").status == 201, within_s=10)
    assert newcomer.get("/auth/me").status == 200


def _takes_one_more(postgres: PrivatePostgres, hogs: list[psycopg.Connection]) -> bool:
    try:
        hogs.append(psycopg.connect(host=str(postgres.folder), user="postgres", dbname="postgres"))
    except psycopg.OperationalError:
        return False
    return True


# -- SQLite ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded() -> Iterator[GunicornServer]:
    """The service on SQLite."""
    with serving(SHORT_WAITS) as server:
        yield server


def database_of(server: GunicornServer) -> Path:
    return Path(server.environment["DATA_DIR"]) / "chat.db"


def test_a_write_lock_held_by_another_process_is_503_for_writes_and_reads_go_on(
    embedded: GunicornServer,
) -> None:
    person = Person(embedded)
    conversation_id = person.conversation()
    assert person.say(conversation_id, "before").status == 201
    with closing(sqlite3.connect(database_of(embedded), isolation_level=None)) as other_process:
        other_process.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        assert_unavailable(person.say(conversation_id, "locked out"))
        assert WAIT_S <= time.monotonic() - started < LONGEST_ANSWER_S
        assert_unavailable(person.say(conversation_id, "locked out", key="1"))
        assert_unavailable(Answer(*embedded.request("POST", "/auth/login", person.credentials)))
        assert [message["content"] for message in person.messages(conversation_id)] == ["before"]
        assert person.get(f"/chat/conversations/{conversation_id}").body["message_count"] == 1
        assert embedded.request("GET", "/readyz")[0] == 200
        other_process.execute("ROLLBACK")
    assert person.say(conversation_id, "after", key="1").status == 201
    assert [message["position"] for message in person.messages(conversation_id)] == [1, 2]


LARGE_TEXT = "x" * 500_000


def fill_until_503(person: Person, conversation_id: str) -> int:
    """Post until nothing more fits; how many were stored."""
    for count in range(200):
        answer = person.say(conversation_id, LARGE_TEXT)
        if answer.status != 201:
            assert_unavailable(answer)
            return count
    raise AssertionError("The disk never became full.")


def assert_nothing_is_half_stored(person: Person, conversation_id: str, count: int) -> None:
    messages = person.messages(conversation_id, limit=4)
    assert [message["position"] for message in messages] == list(range(1, count + 1))
    assert {message["content"] for message in messages} <= {LARGE_TEXT, "after"}
    assert person.get(f"/chat/conversations/{conversation_id}").body["message_count"] == count


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit of a running process")
def test_a_disk_that_takes_no_more_is_503_and_nothing_is_half_stored() -> None:
    """The kernel refuses to let the worker's files grow: a quota, as far as SQLite can tell."""
    with serving(SHORT_WAITS) as server:
        person = Person(server)
        conversation_id = person.conversation()
        worker = psutil.Process(server.worker_pids()[0])
        _, hard = worker.rlimit(psutil.RLIMIT_FSIZE)
        worker.rlimit(psutil.RLIMIT_FSIZE, (6_000_000, hard))
        count = fill_until_503(person, conversation_id)
        assert count > 1
        assert_unavailable(person.say(conversation_id, LARGE_TEXT, key="1"))
        assert_nothing_is_half_stored(person, conversation_id, count)
        worker.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))
        assert person.say(conversation_id, "after", key="2").status == 201
        assert_nothing_is_half_stored(person, conversation_id, count + 1)
        with closing(sqlite3.connect(database_of(server))) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    try:
        failed = subprocess.run(mount, capture_output=True).returncode
    except FileNotFoundError:
        failed = 1
    if failed:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_503_and_nothing_is_half_stored(small_disk: Path) -> None:
    with serving(SHORT_WAITS | {"DATA_DIR": str(small_disk)}) as server:
        server.log_path = small_disk / "log"  # the log can't be written any more, either
        server.restart()
        person = Person(server)
        conversation_id = person.conversation()
        count = fill_until_503(person, conversation_id)
        assert count > 1
        assert_nothing_is_half_stored(person, conversation_id, count)
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        assert person.say(conversation_id, "after").status == 201
        assert_nothing_is_half_stored(person, conversation_id, count + 1)


def test_a_read_only_disk_is_503_until_it_can_be_written_again(small_disk: Path) -> None:
    with serving(SHORT_WAITS | {"DATA_DIR": str(small_disk)}) as server:
        person = Person(server)
        conversation_id = person.conversation()
        assert person.say(conversation_id, "before").status == 201
        server.terminate()
        remount = ["mount", "-o", "remount,ro", str(small_disk)]
        subprocess.run(remount, check=True)
        server.start()
        assert_unavailable(person.say(conversation_id, "read-only"))
        assert_unavailable(person.post("/chat/conversations", {"user_id": person.user["id"], "title": "T"}))
        assert_unavailable(Answer(*server.request("POST", "/auth/login", person.credentials)))
        subprocess.run([*remount[:2], "remount,rw", remount[3]], check=True)
        said = [person.say(conversation_id, f"after {number}").status for number in range(10)]
        assert said == [201] * 10, "Connections that were opened meanwhile are read-only for ever."
        assert [message["content"] for message in person.messages(conversation_id)][:2] == [
            "before",
            "after 0",
        ]
        made = [person.post("/chat/conversations", {"title": "T"}).status for _ in range(10)]
        assert made == [201] * 10
