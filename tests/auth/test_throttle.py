"""Throttling of logins, registrations and password changes, over several workers."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import time_machine
from werkzeug.test import TestResponse

from chat_api.auth.models import ThrottleCounter
from chat_api.database.session import db
from tests.conftest import serving
from tests.support.api import PASSWORD, Api, new_email
from tests.support.problems import assert_problem

WRONG = "a wrong password"


def log_in(api: Api, email: str, password: str = WRONG, address: str = "192.0.2.1") -> TestResponse:
    body = {"email": email, "password": password}
    return api.post("/auth/login", body, environ_overrides={"REMOTE_ADDR": address})


def statuses(api: Api, email: str, *passwords: str) -> list[int]:
    return [log_in(api, email, password).status_code for password in passwords]


def test_an_account_has_to_wait_after_too_many_tries(
    database_url: str, tmp_path: Path, ada: Api, bob: Api
) -> None:
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ACCOUNT="3 per 90 seconds") as app:
        api, email = Api(app), ada.user["email"]
        assert statuses(api, email, WRONG, WRONG, WRONG) == [401] * 3
        refused = log_in(api, email.upper(), PASSWORD)  # not even with the right one, in no spelling
        assert refused.status_code == 429
        assert refused.mimetype == "application/problem+json"
        assert refused.headers["Retry-After"].isdigit()
        assert 1 <= int(refused.headers["Retry-After"]) <= 90
        assert log_in(api, bob.user["email"], PASSWORD).status_code == 200


def test_strangers_elsewhere_lock_nobody_out(database_url: str, tmp_path: Path, ada: Api) -> None:
    limits = {"LOGIN_LIMIT_PER_ACCOUNT": "2 per hour", "LOGIN_LIMIT_ALL_NETWORKS": "5 per hour"}
    with serving(database_url, tmp_path, **limits) as app:
        api, email = Api(app), ada.user["email"]
        strange = [log_in(api, email, WRONG, "198.51.100.1").status_code for _ in range(9)]
        assert strange == [401, 401] + [429] * 7
        assert log_in(api, email, PASSWORD, "198.51.100.1").status_code == 429
        assert log_in(api, email, PASSWORD, "192.0.2.1").status_code == 200


def test_an_attack_from_many_networks_is_bounded_and_spares_the_networks_of_the_account(
    database_url: str, tmp_path: Path, ada: Api
) -> None:
    limits = {"LOGIN_LIMIT_PER_ACCOUNT": "2 per hour", "LOGIN_LIMIT_ALL_NETWORKS": "5 per hour"}
    with serving(database_url, tmp_path, **limits) as app:
        api, email = Api(app), ada.user["email"]
        assert log_in(api, email, PASSWORD, "192.0.2.1").status_code == 200  # this one counts, too
        attack = [log_in(api, email, WRONG, f"198.51.100.{number}").status_code for number in range(9)]
        assert attack == [401] * 4 + [429] * 5
        assert log_in(api, email, PASSWORD, "203.0.113.5").status_code == 429  # even with the password
        own = [log_in(api, email, password, "192.0.2.1").status_code for password in (WRONG, PASSWORD, WRONG)]
        assert own == [401, 200, 401]
        guesses = [log_in(api, email, WRONG, "192.0.2.1").status_code for _ in range(3)]
        assert guesses == [401, 429, 429], "The account's own network has a limit as well."
        with time_machine.travel(
            time.time() + 31 * 86_400
        ):  # long after the attack, and after the last login
            again = [log_in(api, email, WRONG, f"198.51.100.{number}").status_code for number in range(6)]
            assert again == [401] * 5 + [429]
            assert log_in(api, email, PASSWORD, "192.0.2.1").status_code == 429, (
                "It is a strange network again."
            )


def test_guesses_with_a_stolen_token_keep_nobody_from_changing_the_password(
    database_url: str, tmp_path: Path, ada: Api
) -> None:
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ACCOUNT="2 per hour") as app:
        api = Api(app, user=ada.user).log_in()

        def change(current: str, address: str) -> int:
            body = {"current_password": current, "password": PASSWORD}
            return api.patch("/auth/me", body, environ_overrides={"REMOTE_ADDR": address}).status_code

        assert [change(WRONG, "198.51.100.1") for _ in range(3)] == [403, 403, 429]
        assert change(PASSWORD, "192.0.2.1") == 200
        body = {"name": "script", "current_password": WRONG}
        thief = {"environ_overrides": {"REMOTE_ADDR": "198.51.100.1"}}
        assert api.post("/auth/tokens", body, **thief).status_code == 429, "Another way to guess the same."


def test_an_unknown_account_has_to_wait_like_a_known_one(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ACCOUNT="2 per hour") as app:
        assert statuses(Api(app), new_email(), WRONG) == [401]
        assert statuses(Api(app), "nobody@example.org", WRONG, WRONG, WRONG) == [401, 401, 429]


def test_a_success_sets_the_accounts_counter_back(database_url: str, tmp_path: Path, ada: Api) -> None:
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ACCOUNT="3 per hour") as app:
        tries = [WRONG, WRONG, PASSWORD, WRONG, WRONG, WRONG, WRONG]
        assert statuses(Api(app), ada.user["email"], *tries) == [401, 401, 200, 401, 401, 401, 429]


def test_an_address_has_to_wait_whatever_accounts_it_tries(
    database_url: str, tmp_path: Path, ada: Api, bob: Api
) -> None:
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ADDRESS="3 per hour") as app:
        api, email = Api(app), bob.user["email"]
        tried = [
            log_in(api, address, PASSWORD, "192.0.2.7")
            for address in (new_email(), email, new_email(), email)
        ]
        assert [answer.status_code for answer in tried] == [401, 200, 401, 429]
        assert int(tried[3].headers["Retry-After"]) > 3000
        assert log_in(api, email, PASSWORD, "192.0.2.8").status_code == 200
        spoofed = api.post(
            "/auth/login",
            {"email": email, "password": PASSWORD},
            headers={"X-Forwarded-For": "198.51.100.1"},
            environ_overrides={"REMOTE_ADDR": "192.0.2.7"},
        )
        assert spoofed.status_code == 429


def test_an_invalid_body_counts_as_a_try_of_its_address(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ADDRESS="2 per hour") as app:
        assert [Api(app).post("/auth/login", {}).status_code for _ in range(3)] == [400, 400, 429]


def test_with_proxies_the_address_is_the_clients(database_url: str, tmp_path: Path, ada: Api) -> None:
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ADDRESS="1 per hour", TRUSTED_PROXIES=1) as app:

        def status_from(forwarded: str) -> int:
            body = {"email": ada.user["email"], "password": PASSWORD}
            return Api(app).post("/auth/login", body, headers={"X-Forwarded-For": forwarded}).status_code

        assert [status_from("198.51.100.1"), status_from("198.51.100.2")] == [200, 200]
        assert status_from("203.0.113.9, 198.51.100.1") == 429  # what the client itself wrote does not count


def test_registrations_of_an_address_are_limited(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path, REGISTER_LIMIT_PER_ADDRESS="2 per hour") as app:
        bodies = [{"email": new_email(), "password": PASSWORD} for _ in range(3)]
        answers = [Api(app).post("/auth/register", body) for body in bodies]
        assert [answer.status_code for answer in answers] == [201, 201, 429]
        assert answers[2].headers["Retry-After"].isdigit()


def test_guessing_the_current_password_is_throttled(database_url: str, tmp_path: Path, ada: Api) -> None:
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ACCOUNT="3 per hour") as app:
        api = Api(app, user=ada.user).log_in()

        def change(current: str) -> int:
            return api.patch("/auth/me", {"current_password": current, "password": PASSWORD}).status_code

        tries = [WRONG, WRONG, PASSWORD, WRONG, WRONG, WRONG, PASSWORD]
        assert [change(current) for current in tries] == [403, 403, 200, 403, 403, 403, 429]


def test_the_limit_is_exact_over_threads_and_workers(database_url: str, tmp_path: Path, ada: Api) -> None:
    settings: dict[str, Any] = {"LOGIN_LIMIT_PER_ACCOUNT": "5 per hour"}
    with (
        serving(database_url, tmp_path, **settings) as one,
        serving(database_url, tmp_path, **settings) as two,
    ):
        start = threading.Barrier(16)

        def try_twice(number: int) -> list[int]:
            start.wait()
            return statuses(Api((one, two)[number % 2]), ada.user["email"], WRONG, WRONG)

        with ThreadPoolExecutor(16) as pool:
            seen = [status for pair in pool.map(try_twice, range(16)) for status in pair]
        assert sorted(seen) == [401] * 5 + [429] * 27


def test_the_counters_name_nobody(database_url: str, tmp_path: Path) -> None:
    email, address = new_email(), "203.0.113.77"
    with serving(database_url, tmp_path) as app:
        log_in(Api(app), email, WRONG, address)
        with app.app_context():
            rows = [repr(tuple(row)) for row in db.session.execute(sa.select(ThrottleCounter.__table__))]
    assert rows
    assert not [row for row in rows if email in row or address in row]


def test_the_end_of_the_window_opens_again(database_url: str, tmp_path: Path, ada: Api) -> None:
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ACCOUNT="2 per 2 seconds") as app:
        api, email = Api(app), ada.user["email"]
        assert statuses(api, email, WRONG, WRONG) == [401, 401]
        refused = log_in(api, email)
        assert refused.status_code == 429
        time.sleep(int(refused.headers["Retry-After"]))
        assert statuses(api, email, WRONG, WRONG, WRONG) == [401, 401, 429]  # a whole new window


def test_an_ipv6_client_is_throttled_by_its_network(database_url: str, tmp_path: Path) -> None:
    """A subscriber has 2**64 addresses, so a limit for each of them would be none; IPv4 addresses stay apart."""
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ADDRESS="1 per hour") as app:
        addresses = (
            "2001:db8::1",
            "2001:db8:0:0:ffff::2",
            "2001:db8:0:1::1",
            "::ffff:192.0.2.7",
            "::ffff:192.0.2.8",
        )
        answers = [log_in(Api(app), new_email(), address=address).status_code for address in addresses]
    assert answers == [401, 429, 401, 401, 401]


def test_too_many_requests_say_when_to_come_back(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ACCOUNT="1 per hour") as app:
        body = {"email": new_email(), "password": "not the password"}
        assert Api(app).post("/auth/login", body).status_code == 401
        refused = Api(app).post("/auth/login", body)
        assert_problem(refused, 429)
        assert 0 < int(refused.headers["Retry-After"]) <= 3600
