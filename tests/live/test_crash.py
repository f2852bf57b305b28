"""Kills in the middle of writing: what was acknowledged is there exactly once, in order, without gaps."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.live.client import CONNECTION_LOST, Person, all_workers, serving, wait_until
from tests.support.postgres import PrivatePostgres
from tests.support.server import GunicornServer

pytestmark = pytest.mark.slow

WRITERS = 4
CONVERSATIONS = 2
KILLS = 3
MESSAGES_BETWEEN_KILLS = 30  # acknowledged, by all writers together


class Writer(threading.Thread):
    """Posts one message after the other, in turn to each conversation, and retries each until it is acknowledged."""

    def __init__(self, person: Person, conversation_ids: list[str], name: str, stop: threading.Event) -> None:
        super().__init__(name=name)
        self.acknowledged: list[tuple[str, str, int]] = []  # conversation, content, position
        self.retries = 0
        self.failure: BaseException | None = None
        self._person = person
        self._conversation_ids = conversation_ids
        self._stop_event = stop

    def run(self) -> None:
        try:
            number = 0
            while not self._stop_event.is_set():
                number += 1
                self._post(self._conversation_ids[number % CONVERSATIONS], f"{self.name} {number:05}")
        except BaseException as error:
            self.failure = error

    def _post(self, conversation_id: str, content: str) -> None:
        key = str(uuid.uuid4())
        while True:
            try:
                answer = self._person.say(conversation_id, content, key=key)
            except CONNECTION_LOST:
                pass  # perhaps it is stored: the key tells
            else:
                if answer.status == 201:
                    self.acknowledged.append((conversation_id, content, answer.body["position"]))
                    return
                # 409: the first try still runs in the database. Nothing else may come, above all no 500
                assert answer.status in (503, 409), answer
            self.retries += 1
            time.sleep(0.02)


@contextmanager
def writing(person: Person, conversation_ids: list[str]) -> Iterator[list[Writer]]:
    stop = threading.Event()
    writers = [Writer(person, conversation_ids, f"writer {number}", stop) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def crash_while_writing(server: GunicornServer, crash: Callable[[], object]) -> None:
    """Let writers write, crash several times, and compare what they were told with what is there."""
    person = Person(server)
    conversation_ids = [person.conversation() for _ in range(CONVERSATIONS)]

    with writing(person, conversation_ids) as writers:

        def wait_for_more() -> None:
            before = sum(len(writer.acknowledged) for writer in writers)
            wait_until(
                lambda: (
                    any(writer.failure for writer in writers)
                    or sum(len(writer.acknowledged) for writer in writers) >= before + MESSAGES_BETWEEN_KILLS
                ),
                what="the writers get on",
            )

        for _ in range(KILLS):
            wait_for_more()
            crash()
        wait_for_more()

    assert [writer.failure for writer in writers] == [None] * WRITERS
    assert any(writer.retries for writer in writers), "no kill hit a request: the test shows nothing"
    for conversation_id in conversation_ids:
        assert_it_is_as_acknowledged(person, conversation_id, writers)


def assert_it_is_as_acknowledged(person: Person, conversation_id: str, writers: list[Writer]) -> None:
    messages = person.messages(conversation_id)
    stored = {message["content"]: message["position"] for message in messages}
    acknowledged = {
        content: position
        for writer in writers
        for place, content, position in writer.acknowledged
        if place == conversation_id
    }
    # every writer ends acknowledged, so nothing else may be there: each message once, at its place
    assert stored == acknowledged
    assert [message["position"] for message in messages] == list(range(1, len(messages) + 1))
    conversation = person.get(f"/chat/conversations/{conversation_id}").body
    assert conversation["message_count"] == len(messages)
    for writer in writers:
        own = [message["content"] for message in messages if message["content"].startswith(writer.name)]
        assert own == sorted(own)


@pytest.fixture(scope="module")
def durable_postgres() -> Iterator[PrivatePostgres]:
    """A Postgres as in production: a commit is on disk before it is acknowledged."""
    with PrivatePostgres() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server(backend: str, request: pytest.FixtureRequest) -> Iterator[GunicornServer]:
    """Two workers, on SQLite too, so that a killed one leaves another."""
    settings = {"WEB_CONCURRENCY": "2", "THREADS": "4"}
    if backend == "postgres":
        settings["DATABASE_URL"] = request.getfixturevalue("durable_postgres").url
    with serving(settings) as running:
        yield running


def test_a_killed_worker_loses_and_doubles_nothing(server: GunicornServer) -> None:
    def kill_worker() -> None:
        victim = server.kill_worker()
        wait_until(lambda: victim not in all_workers(server))

    crash_while_writing(server, kill_worker)


def test_a_killed_process_group_loses_and_doubles_nothing(server: GunicornServer) -> None:
    def kill_all_and_start_again() -> None:
        server.kill_group()
        server.start()

    crash_while_writing(server, kill_all_and_start_again)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_killed_postgres_loses_and_doubles_nothing(
    server: GunicornServer, durable_postgres: PrivatePostgres
) -> None:
    def kill_and_start_again() -> None:
        durable_postgres.kill()
        durable_postgres.start()

    crash_while_writing(server, kill_and_start_again)
