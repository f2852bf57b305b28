"""What happens in one worker counts in all of them."""

import time
import uuid
from functools import partial

import pytest

from chat_api.auth.service import MAX_USED
from tests.live.client import Answer, Line, Person, at_once, line_to_each_worker
from tests.support.server import GunicornServer

PROMISED_S = 1.0
LOGINS_PER_ACCOUNT = 10  # the default of LOGIN_LIMIT_PER_ACCOUNT


def assert_accepted_everywhere(lines: list[Line], token: str) -> None:
    assert [line.request("GET", "/auth/me", token=token).status for line in lines] == [200, 200, 200]


def assert_refused_everywhere(lines: list[Line], token: str, *, since: float) -> None:
    """Busy workers, which have looked at the token all along, refuse it within the promised second."""
    while time.monotonic() < since + PROMISED_S:
        for line in lines:
            assert line.request("GET", "/auth/me", token=token).status in (200, 401, 404)
    assert [line.request("GET", "/auth/me", token=token).status for line in lines] == [401, 401, 401]


@pytest.fixture
def person(three_workers: GunicornServer) -> Person:
    return Person(three_workers)


@pytest.fixture
def other_login(person: Person) -> Person:
    """The same user on another device."""
    elsewhere = object.__new__(Person)
    elsewhere.__dict__.update(person.__dict__)
    elsewhere.log_in()
    return elsewhere


def test_a_logout_is_known_to_every_worker_within_a_second(
    three_workers: GunicornServer, person: Person
) -> None:
    with line_to_each_worker(three_workers) as lines:
        assert_accepted_everywhere(lines, person.token)
        assert lines[0].request("POST", "/auth/logout", token=person.token).status == 204
        assert_refused_everywhere(lines, person.token, since=time.monotonic())
        for line in lines:
            assert line.request("POST", "/auth/refresh", token=person.refresh_token).status == 401


def test_using_a_refresh_token_twice_ends_the_login_in_every_worker(
    three_workers: GunicornServer, person: Person
) -> None:
    with line_to_each_worker(three_workers) as lines:
        token = person.refresh_token
        for _ in range(MAX_USED + 1):  # the first ones are not remembered any more
            fresh = lines[0].request("POST", "/auth/refresh", token=token)
            assert fresh.status == 200
            token = fresh.body["refresh_token"]
        assert_accepted_everywhere(lines, fresh.body["access_token"])
        assert lines[1].request("POST", "/auth/refresh", token=person.refresh_token).status == 401
        assert_refused_everywhere(lines, fresh.body["access_token"], since=time.monotonic())
        assert lines[2].request("POST", "/auth/refresh", token=fresh.body["refresh_token"]).status == 401


def test_a_new_password_ends_the_other_logins_in_every_worker(
    three_workers: GunicornServer, person: Person, other_login: Person
) -> None:
    with line_to_each_worker(three_workers) as lines:
        assert_accepted_everywhere(lines, other_login.token)
        body = {"current_password": person.password, "password": "another horse and battery"}
        assert lines[0].request("PATCH", "/auth/me", body, token=person.token).status == 200
        assert_refused_everywhere(lines, other_login.token, since=time.monotonic())
        assert_accepted_everywhere(lines, person.token)


def test_a_role_given_on_the_command_line_ends_the_logins_of_the_old_role(
    three_workers: GunicornServer, person: Person
) -> None:
    with line_to_each_worker(three_workers) as lines:
        assert_accepted_everywhere(lines, person.token)
        three_workers.run_flask("users", "set-role", person.email, "service")
        assert_refused_everywhere(lines, person.token, since=time.monotonic())
        person.log_in()
        assert lines[0].request("GET", "/auth/me", token=person.token).body["role"] == "service"


def test_an_erased_account_is_gone_in_every_worker(
    three_workers: GunicornServer, person: Person, other_login: Person
) -> None:
    with line_to_each_worker(three_workers) as lines:
        assert_accepted_everywhere(lines, other_login.token)
        assert lines[0].request("DELETE", "/auth/me", token=person.token).status == 204
        assert_refused_everywhere(lines, other_login.token, since=time.monotonic())
        # GET /auth/me reads the row; here the token alone would do for a worker that does not know
        for token in (person.token, other_login.token):
            path = f"/chat/conversations/{uuid.uuid4()}/messages"
            assert [line.request("GET", path, token=token).status for line in lines] == [401, 401, 401]


def test_a_deleted_personal_token_is_refused_at_once_by_every_worker(
    three_workers: GunicornServer, person: Person
) -> None:
    with line_to_each_worker(three_workers) as lines:
        made = lines[0].request(
            "POST", "/auth/tokens", {"name": "ci", "expires_in_days": 1}, token=person.token
        )
        assert_accepted_everywhere(lines, made.body["token"])
        assert lines[1].request("DELETE", f"/auth/tokens/{made.body['id']}", token=person.token).status == 204
        assert_refused_everywhere(lines, made.body["token"], since=time.monotonic() - PROMISED_S)


def test_parallel_guesses_at_a_password_are_counted_exactly_over_all_workers(
    three_workers: GunicornServer, person: Person
) -> None:
    wrong = {"email": person.email, "password": "not the password"}
    with line_to_each_worker(three_workers) as lines:

        def guess_ten_times(line: Line) -> list[Answer]:
            return [line.request("POST", "/auth/login", wrong) for _ in range(10)]

        per_worker = at_once(partial(guess_ten_times, line) for line in lines)
        answers = [answer for found in per_worker for answer in found]
        assert sorted(answer.status for answer in answers) == [401] * LOGINS_PER_ACCOUNT + [429] * 20
        for answer in answers:
            assert answer.status == 401 or 0 < int(answer.headers["Retry-After"]) <= 15 * 60
        # the right password has to wait as well, in every worker
        assert [line.request("POST", "/auth/login", person.credentials).status for line in lines] == [429] * 3


def test_retries_of_a_request_in_several_workers_have_one_effect(
    three_workers: GunicornServer, person: Person
) -> None:
    conversation_id = person.conversation()
    body = {"conversation_id": conversation_id, "role": "user", "content": "Once, please."}
    key = {"Idempotency-Key": str(uuid.uuid4())}

    def post(line: Line) -> Answer:
        return line.request("POST", "/chat/messages", body, token=person.token, headers=key)

    with line_to_each_worker(three_workers) as lines:
        at_the_same_time = at_once(partial(post, line) for line in lines)
        afterwards = [post(line) for line in lines]

    assert {answer.status for answer in at_the_same_time} <= {201, 409}
    assert all("Retry-After" in answer.headers for answer in at_the_same_time if answer.status == 409)
    stored = person.messages(conversation_id)
    assert len(stored) == 1
    for answer in afterwards:
        assert (answer.status, answer.headers["Idempotency-Replayed"]) == (201, "true")
    for answer in at_the_same_time + afterwards:
        assert answer.status == 409 or answer.body == stored[0]
