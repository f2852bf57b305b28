"""Several services on one Postgres, and a Postgres that fails over (docs/scaling.md)."""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import psycopg
import pytest
from cryptography.fernet import Fernet

from tests.live.client import Answer, Person, assert_unavailable, at_once, serving, wait_until
from tests.support.postgres import PrivatePostgres, Standby
from tests.support.server import GunicornServer

pytestmark = pytest.mark.nightly

SECRETS = {"JWT_SECRET_KEY": secrets.token_urlsafe(48), "ENCRYPTION_KEYS": Fernet.generate_key().decode()}
LONGEST_FAILOVER_S = 15  # on a busy machine; a quiet one needs about one second


# -- several services -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[PrivatePostgres]:
    with PrivatePostgres(fsync="off") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def services(postgres: PrivatePostgres) -> Iterator[list[GunicornServer]]:
    """Two services that share nothing but a database and secrets."""
    settings = SECRETS | {
        "DATABASE_URL": postgres.url,
        "WEB_CONCURRENCY": "1",
        "LOGIN_LIMIT_PER_ACCOUNT": "10 per hour",
    }
    with ExitStack() as stack:
        yield [stack.enter_context(serving(settings)) for _ in range(2)]


@pytest.fixture
def person(services: list[GunicornServer]) -> Person:
    """Somebody who is logged in at the first service."""
    return Person(services[0])


def elsewhere(person: Person, server: GunicornServer) -> Person:
    """The same person, with the same tokens, at another service."""
    other = object.__new__(Person)
    vars(other).update(vars(person))
    other.server = server
    return other


def test_a_token_and_its_end_hold_at_each_service(services: list[GunicornServer], person: Person) -> None:
    other = elsewhere(person, services[1])
    assert other.get("/auth/me").body == person.get("/auth/me").body
    assert person.post("/auth/logout", None).status == 204
    began = time.monotonic()
    wait_until(lambda: other.get("/auth/me").status == 401, what="the logout is known elsewhere")
    assert time.monotonic() - began < 1.5


def test_a_key_has_one_effect_at_both_services_at_once(
    services: list[GunicornServer], person: Person
) -> None:
    conversation = person.conversation()
    both = person, elsewhere(person, services[1])
    for number in range(20):
        first, second = at_once(
            [partial(one.say, conversation, f"{number}", key=f"k{number}") for one in both]
        )
        assert {first.status, second.status} <= {201, 409}
        ids = {one.say(conversation, f"{number}", key=f"k{number}").body["id"] for one in both}
        assert len(ids) == 1
    assert [message["content"] for message in person.messages(conversation)] == [
        f"{number}" for number in range(20)
    ]


def test_attempts_are_counted_together(services: list[GunicornServer], person: Person) -> None:
    wrong = {"email": person.email, "password": "not this one"}
    statuses = Counter(services[number % 2].request("POST", "/auth/login", wrong)[0] for number in range(16))
    assert statuses == {401: 10, 429: 6}


def say_often(person: Person, conversation: str) -> list[Answer]:
    return [person.say(conversation, "Hello") for _ in range(20)]


def test_messages_that_come_through_both_services_are_numbered_without_gaps(
    services: list[GunicornServer], person: Person
) -> None:
    conversation = person.conversation()
    both = person, elsewhere(person, services[1])
    answers = at_once([partial(say_often, one, conversation) for one in both for _ in range(2)])
    assert {answer.status for some in answers for answer in some} == {201}
    assert [message["position"] for message in person.messages(conversation)] == list(range(1, 81))


# -- a failover -----------------------------------------------------------------------------------------------


class Writer:
    """Says something again and again, and notes each answer and when it came."""

    def __init__(self, person: Person) -> None:
        self.person, self.conversation = person, person.conversation()
        self.answers: list[tuple[float, Answer]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        self._stop.set()
        self._thread.join()

    def is_served(self, since: float) -> bool:
        return any(at > since and answer.status == 201 for at, answer in self.answers)

    def _run(self) -> None:
        while not self._stop.is_set():
            answer = self.person.say(self.conversation, f"{len(self.answers)}")
            self.answers.append((time.monotonic(), answer))


def test_after_a_failover_the_service_goes_on_at_the_new_primary() -> None:
    """The standby has all that was acknowledged: the primary waits for it."""
    with PrivatePostgres() as primary, Standby(primary) as standby:
        with psycopg.connect(primary.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
        url = f"postgresql+psycopg://postgres@/postgres?host={primary.folder}&host={standby.folder}"
        with serving(SECRETS | {"DATABASE_URL": f"{url}&target_session_attrs=read-write"}) as server:
            writers = [Writer(Person(server)) for _ in range(4)]
            began = time.monotonic()
            wait_until(lambda: all(writer.is_served(began) for writer in writers), what="everybody is served")
            killed_at = time.monotonic()
            primary.kill()
            standby.promote()
            promoted_at = time.monotonic()
            wait_until(lambda: all(writer.is_served(promoted_at) for writer in writers), what="all go on")
            for writer in writers:
                writer.finish()
            assert server.request("GET", "/readyz")[0] == 200
            outage_s = (
                max(
                    next(at for at, answer in writer.answers if at > promoted_at and answer.status == 201)
                    for writer in writers
                )
                - killed_at
            )
            print(f"503 for {outage_s:.1f} s, promotion took {promoted_at - killed_at:.1f} s of it")
            assert outage_s < LONGEST_FAILOVER_S
            for writer in writers:
                for _, answer in writer.answers:
                    if answer.status != 201:
                        assert_unavailable(answer)
                acknowledged = [answer.body["id"] for _, answer in writer.answers if answer.status == 201]
                stored = [message["id"] for message in writer.person.messages(writer.conversation)]
                assert set(acknowledged) <= set(stored)


def test_a_service_at_a_standby_is_not_ready() -> None:
    with PrivatePostgres(fsync="off") as primary, serving(SECRETS | {"DATABASE_URL": primary.url}) as server:
        person = Person(server)
        with (
            Standby(primary) as standby,
            GunicornServer(server.environment | {"DATABASE_URL": standby.url}, migrate=False) as behind,
        ):
            status, headers, problem = behind.request("GET", "/readyz")
            assert (status, headers["Retry-After"]) == (503, "1")
            assert "can only be read" in problem["detail"]
            assert elsewhere(person, behind).get("/auth/me").status == 200
            assert_unavailable(elsewhere(person, behind).post("/chat/conversations", {"title": "T"}))
            standby.promote()
            wait_until(lambda: behind.request("GET", "/readyz")[0] == 200, what="the promoted one is ready")
            assert elsewhere(person, behind).post("/chat/conversations", {"title": "T"}).status == 201
