"""Passwords are hashed one after the other: whoever waits for that keeps nothing that others need."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from chat_api.auth import passwords
from chat_api.database.session import db
from chat_api.server.slots import REQUEST_SLOT, RequestSlot, UserShares, request_slots
from tests.conftest import serving
from tests.live.client import wait_until
from tests.support.api import PASSWORD, Api, new_email

NEW_PASSWORD = "nine lives of a tabby cat"


@contextmanager
def nothing_is_hashed() -> Iterator[None]:
    """All that may hash at the same time do so, during the block."""
    with ExitStack() as stack:
        while passwords._HASHINGS.acquire(blocking=False):
            stack.callback(passwords._HASHINGS.release)
        yield


def sent(api: Api, method: str, path: str, json: dict[str, str], slot: RequestSlot, key: str) -> TestResponse:
    """A request as a worker runs it, in a slot."""
    headers = {"Idempotency-Key": key} if path == "/auth/register" else {}
    try:
        overrides = {REQUEST_SLOT: slot}
        return api.request(method, path, json=json, headers=headers, environ_overrides=overrides)
    finally:
        slot.release()


@pytest.mark.parametrize("what", ["login", "registration", "change"])
def test_who_waits_for_a_hash_has_no_slot_no_connection_and_no_lock(
    database_url: str, tmp_path: Path, what: str
) -> None:
    with serving(database_url, tmp_path) as app, app.app_context(), ThreadPoolExecutor(1) as pool:
        email = new_email()
        ada = Api(app, user=Api(app).made("/auth/register", {"email": email, "password": PASSWORD})).log_in()
        requests = {
            "login": (Api(app), "POST", "/auth/login", {"email": email, "password": PASSWORD}),
            "registration": (
                Api(app),
                "POST",
                "/auth/register",
                {"email": new_email(), "password": PASSWORD},
            ),
            "change": (ada, "PATCH", "/auth/me", {"current_password": PASSWORD, "password": NEW_PASSWORD}),
        }
        free, shares = request_slots(1), UserShares(1)
        slot = RequestSlot(free, shares)
        with nothing_is_hashed():
            answer = pool.submit(sent, *requests[what], slot, new_email())
            wait_until(lambda: passwords.hashing_slots.taken == 1)
            wait_until(lambda: free.qsize() == 1)
            assert not shares._running
            assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            ada.conversation()  # on SQLite only one can write
        assert answer.result(10).status_code in (200, 201)
        assert free.qsize() == 1


def test_a_network_has_so_many_passwords_checked_at_the_same_time(database_url: str, tmp_path: Path) -> None:
    """A refused login is no guess."""
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ACCOUNT="3 per hour") as app, ExitStack() as stack:
        api, address = Api(app), "203.0.113.9"
        body = {"email": new_email(), "password": PASSWORD}
        api.made("/auth/register", body)
        log_in: Callable[[], TestResponse] = lambda: api.post(  # noqa: E731
            "/auth/login", body, environ_base={"REMOTE_ADDR": address}
        )
        for _ in range(passwords.MAX_WAITING_PER_CLIENT):
            stack.enter_context(passwords.hashing_slots.take(address))
        for _ in range(5):
            refused = log_in()
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert api.post("/auth/login", body).status_code == 200  # from another address
        stack.close()
        assert log_in().status_code == 200


def test_passwords_are_hashed_outside_of_requests() -> None:
    hashes: list[str] = []
    thread = threading.Thread(target=lambda: hashes.append(passwords.hash_password(PASSWORD)))
    thread.start()
    thread.join()
    assert passwords.verify_password(PASSWORD, hashes[0])
