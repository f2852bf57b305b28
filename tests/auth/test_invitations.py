"""Registration by invitation: who can register, with what, and what an invitation gives away."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.auth import invitations
from tests.conftest import serving
from tests.support.api import PASSWORD, Api, new_email
from tests.support.problems import assert_problem
from tests.support.tables import everything_stored, invite

PAGE = "https://chat.example.org/join"


@pytest.fixture
def invite_only(database_url: str, tmp_path: Path) -> Iterator[Flask]:
    settings = {"REGISTRATION": "invite", "INVITATION_URL": PAGE}
    with serving(database_url, tmp_path, **settings) as app:
        yield app


def register(
    app: Flask, invitation: str | None = None, email: str | None = None, **headers: str
) -> TestResponse:
    body: dict[str, Any] = {"email": email or new_email(), "password": PASSWORD}
    if invitation is not None:
        body["invitation"] = invitation
    return Api(app).post("/auth/register", body, headers=headers or None)


def logged_in(app: Flask, user: Api) -> Api:
    """A login at another deployment of the same database, which has secrets of its own."""
    return Api(app, user=user.user).log_in()


def refused(response: TestResponse, status: int, code: str) -> None:
    assert assert_problem(response, status)["code"] == code


@pytest.mark.happy_path("create_invitation", "list_invitations", "get_invitation", "delete_invitation")
def test_an_invitation_lets_one_person_register_once(invite_only: Flask, admin: Api) -> None:
    boss = logged_in(invite_only, admin)
    made = boss.post("/auth/invitations", {})
    assert made.status_code == 201
    invitation = made.get_json()
    code = invitation["invitation"]
    assert invitation["url"] == f"{PAGE}#invitation={code}"
    assert boss.get(made.headers["Location"]).get_json()["used_at"] is None
    answer = register(invite_only, code)
    assert (answer.status_code, answer.get_json()["role"]) == (201, "user")
    refused(register(invite_only, code), 403, "invalid_invitation")
    [listed] = [item for item in boss.get("/auth/invitations").get_json() if item["id"] == invitation["id"]]
    assert listed["used_at"] is not None
    assert not {"invitation", "url"} & set(listed)
    assert boss.delete(made.headers["Location"]).status_code == 204
    assert boss.get(made.headers["Location"]).status_code == 404


def test_without_an_invitation_nobody_registers(invite_only: Flask) -> None:
    refused(register(invite_only), 403, "invitation_required")


def test_what_is_no_invitation_opens_nothing(invite_only: Flask, admin: Api) -> None:
    code = logged_in(invite_only, admin).made("/auth/invitations", {})["invitation"]
    head, _, secret = code.rpartition("_")
    token = admin.made("/auth/tokens", {"name": "script"})["token"]
    for wrong in (code[:-1], code + "x", f"{head}_{secret.swapcase()}", "x", "chat_inv_", head, token,
                  code.replace("chat_inv_", "chat_pat_"), secret):  # fmt: skip
        refused(register(invite_only, wrong), 403, "invalid_invitation")
    assert Api(invite_only, code).get("/auth/me").status_code == 401
    assert register(invite_only, code).status_code == 201


def test_an_invitation_of_an_address_is_for_that_address(invite_only: Flask, admin: Api) -> None:
    email = new_email()
    code = logged_in(invite_only, admin).made("/auth/invitations", {"email": email.upper()})["invitation"]
    refused(register(invite_only, code), 403, "invalid_invitation")
    assert register(invite_only, code, email).status_code == 201


def test_an_invitation_expires(invite_only: Flask, admin: Api) -> None:
    code = logged_in(invite_only, admin).made("/auth/invitations", {"expires_in_days": 2})["invitation"]
    with time_machine.travel(datetime.now(UTC) + timedelta(days=2, seconds=1)):
        refused(register(invite_only, code), 403, "invalid_invitation")
    assert register(invite_only, code).status_code == 201


def test_of_many_who_use_an_invitation_at_once_one_registers(invite_only: Flask, admin: Api) -> None:
    code = logged_in(invite_only, admin).made("/auth/invitations", {})["invitation"]
    with ThreadPoolExecutor() as pool:
        statuses = [
            answer.status_code for answer in pool.map(lambda _: register(invite_only, code), range(4))
        ]
    assert sorted(statuses) == [201, 403, 403, 403]


def test_a_registration_that_fails_uses_up_no_invitation(invite_only: Flask, admin: Api) -> None:
    code = logged_in(invite_only, admin).made("/auth/invitations", {})["invitation"]
    taken = register(invite_only, code, admin.user["email"])
    assert taken.status_code == 409
    assert register(invite_only, code).status_code == 201


def test_a_registration_can_be_repeated_with_its_key(invite_only: Flask, admin: Api) -> None:
    code, email = logged_in(invite_only, admin).made("/auth/invitations", {})["invitation"], new_email()
    first, again = (register(invite_only, code, email, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert first.get_json() == again.get_json()


def test_only_admins_who_have_logged_in_invite(make_user: Callable[..., Api], admin: Api) -> None:
    for role in ("user", "service"):
        assert make_user(role).post("/auth/invitations", {}).status_code == 403
    script = Api(admin.app, admin.made("/auth/tokens", {"name": "script"})["token"])
    assert script.post("/auth/invitations", {}).status_code == 403
    assert admin.post("/auth/invitations", {}).get_json()["url"] is None  # INVITATION_URL is not set


def test_an_invitation_is_not_in_the_database(app: Flask, admin: Api) -> None:
    code = admin.made("/auth/invitations", {}, headers={"Idempotency-Key": "k"})["invitation"]
    assert code[-20:] not in everything_stored(app)


def test_an_admin_has_a_limited_number_of_invitations(admin: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invitations, "MAX_INVITATIONS", 2)
    first = invite(admin)
    invite(admin)
    refused(admin.post("/auth/invitations", {}), 409, "too_many_invitations")
    assert admin.delete(f"/auth/invitations/{first}").status_code == 204
    assert admin.post("/auth/invitations", {}).status_code == 201


def test_closed_is_closed_and_open_takes_an_invitation_too(
    app: Flask, database_url: str, tmp_path: Path, admin: Api
) -> None:
    code = admin.made("/auth/invitations", {})["invitation"]
    with serving(database_url, tmp_path, REGISTRATION="closed") as closed:
        refused(register(closed, code), 403, "registration_closed")
        assert (
            Api(closed).post("/auth/login", {"email": admin.user["email"], "password": PASSWORD}).status_code
            == 200
        )
    assert register(app).status_code == 201
    assert register(app, code).status_code == 201
    refused(register(app, code), 403, "invalid_invitation")
