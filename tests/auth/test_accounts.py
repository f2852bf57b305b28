"""Registering, logging in, changing the password and erasing an account."""

import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.auth import passwords
from chat_api.auth import service as auth
from chat_api.database.session import db
from chat_api.operations.erasure import erase_account
from chat_api.users.models import User
from tests.support.api import PASSWORD, Api, new_email
from tests.support.problems import assert_problem
from tests.support.tables import everything_stored

NEW_PASSWORD = "nine lives of a tabby cat"
REFUSED = (403, "recent_login_required")


def register(stranger: Api, email: Any, password: Any = PASSWORD) -> TestResponse:
    return stranger.post("/auth/register", {"email": email, "password": password})


def log_in(stranger: Api, email: str, password: str = PASSWORD) -> TestResponse:
    return stranger.post("/auth/login", {"email": email, "password": password})


def refresh(api: Api) -> TestResponse:
    return Api(api.app, api.refresh_token).post("/auth/refresh")


def is_refused_within_a_second(api: Api) -> bool:
    """Whether the access token stops working in the time that the contract gives."""
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        if api.get("/auth/me").status_code == 401:
            return True
        time.sleep(0.05)
    return False


# -- register ---------------------------------------------------------------------------------------------


@pytest.mark.happy_path("register")
def test_registering_answers_the_whole_user_and_where_it_is(stranger: Api) -> None:
    email = new_email()
    response = register(stranger, email)
    assert response.status_code == 201
    assert response.headers["Location"] == "/auth/me"
    user = response.get_json()
    assert set(user) == {"id", "email", "role", "created_at"}
    assert (user["email"], user["role"]) == (email, "user")
    assert user["id"][14] == "7"
    assert user["created_at"].endswith("Z")


def test_nobody_registers_with_a_role(stranger: Api) -> None:
    body = {"email": new_email(), "password": PASSWORD, "role": "admin"}
    assert stranger.post("/auth/register", body).status_code == 400


@pytest.mark.parametrize("name", ["id", "user_id", "role", "is_admin", "created_at"])
def test_nobody_registers_with_more_than_address_and_password(stranger: Api, name: str) -> None:
    body = {"email": new_email(), "password": PASSWORD, name: "admin"}
    assert_problem(stranger.post("/auth/register", body), 400, name)


@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title])
def test_an_address_is_taken_whatever_the_case_of_its_letters(
    stranger: Api, spelling: Callable[[str], str]
) -> None:
    email = new_email()
    assert register(stranger, email).status_code == 201
    response = register(stranger, spelling(email))
    assert response.status_code == 409
    assert response.mimetype == "application/problem+json"


@pytest.mark.parametrize(
    "email", ["ada@bücher.example", "jörg@example.org", "admin@localhost", "用户@例子.公司"]
)
def test_an_address_may_have_letters_of_any_language(stranger: Api, email: str) -> None:
    """RFC 6531; and the same address however its letters are composed, and in any case."""
    email = f"{new_email().partition('@')[0]}.{email}"
    assert register(stranger, unicodedata.normalize("NFD", email).upper()).status_code == 201
    assert register(stranger, email).status_code == 409
    assert log_in(stranger, email).status_code == 200


def test_of_parallel_registrations_of_an_address_one_succeeds(app: Flask) -> None:
    email = new_email()
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: register(Api(app), email).status_code, range(8)))
    assert sorted(statuses) == [201] + [409] * 7


@pytest.mark.parametrize(
    "password",
    ["sevench", "x" * 4 + "y" * 125, "password1", "PassWord1", "1234567890", "", None, 12345678, ["secret"]],
    ids=["short", "long", "common", "common-capitals", "digits", "empty", "null", "number", "list"],
)
def test_a_bad_password_is_refused_naming_the_field(stranger: Api, password: Any) -> None:
    response = register(stranger, new_email(), password)
    assert response.status_code == 400
    assert list(response.get_json()["errors"]) == ["password"]


def test_the_address_is_no_password(stranger: Api) -> None:
    email = new_email()
    assert register(stranger, email, email.upper()).status_code == 400


@pytest.mark.parametrize(
    "password", ["tr0ub4d&", "ab" * 64, "  pässwörter 密码 🔑  "], ids=["8", "128", "any"]
)
def test_a_password_counts_as_typed(stranger: Api, password: str) -> None:
    email = new_email()
    assert register(stranger, email, password).status_code == 201
    assert log_in(stranger, email, password).status_code == 200
    assert log_in(stranger, email, password.strip() + "x").status_code == 401


def test_a_password_is_the_same_however_its_characters_are_composed(stranger: Api) -> None:
    composed, decomposed = (unicodedata.normalize(form, "crème brûlée 42") for form in ("NFC", "NFD"))
    for typed, again in ((composed, decomposed), (decomposed, composed.replace(" ", "\u00a0"))):
        email = new_email()
        assert register(stranger, email, typed).status_code == 201
        assert log_in(stranger, email, again).status_code == 200
        assert log_in(stranger, email, composed.upper()).status_code == 401


def test_a_hash_of_an_earlier_release_stays_good(app: Flask, stranger: Api) -> None:
    """It is of the password as it was typed."""
    email, typed = new_email(), unicodedata.normalize("NFD", "crème brûlée 42")
    assert register(stranger, email, "something else").status_code == 201
    with app.app_context():
        old_hash = passwords._HASHER.hash(typed)
        db.session.execute(sa.update(User).where(User.email == email).values(password_hash=old_hash))
        db.session.commit()
    assert log_in(stranger, email, typed).status_code == 200
    assert log_in(stranger, email, "something else").status_code == 401


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "ada@",
        "@example.org",
        "ada@localhost.",
        "ada@.example.org",
        "ada@exa mple.org",
        "ada@-example.org",
        "ada@example",
        "ada@@example.org",
        "ada@bücher",
        "a\u200bda@example.org",
        "a\u202eda@example.org",
        "a b@example.org",
        "ada@example.org\n",
        "a" * 251 + "@b.c",
    ],
)
def test_what_is_no_address_is_refused(stranger: Api, email: str) -> None:
    response = register(stranger, email)
    assert response.status_code == 400
    assert list(response.get_json()["errors"]) == ["email"]


def test_a_password_is_in_no_answer_and_not_in_the_database(app: Flask, stranger: Api) -> None:
    email, secret = new_email(), "a-secret-that-nobody-repeats"
    answers = [
        register(stranger, email, secret),
        register(stranger, email, secret),  # taken
        register(stranger, "no address", secret),
        register(stranger, new_email(), secret * 10),
        log_in(stranger, email, secret),
        log_in(stranger, email, secret + "!"),
        stranger.post("/auth/login", {"email": email, "password": [secret]}),
    ]
    api = Api(app, answers[4].get_json()["access_token"])
    answers.append(api.patch("/auth/me", {"current_password": secret * 2, "password": secret}))
    answers.append(api.get("/auth/me"))
    assert [answer.status_code for answer in answers] == [201, 409, 400, 400, 200, 401, 400, 403, 200]
    assert all(secret not in answer.get_data(as_text=True) for answer in answers)
    assert secret not in everything_stored(app)


# -- login ------------------------------------------------------------------------------------------------


@pytest.mark.happy_path("log_in")
def test_a_login_gives_a_pair_of_tokens_and_the_user(ada: Api, stranger: Api) -> None:
    response = log_in(stranger, ada.user["email"].upper())
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    pair = response.get_json()
    assert set(pair) == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert (pair["token_type"], pair["expires_in"]) == ("Bearer", 15 * 60)
    assert pair["user"] == ada.get("/auth/me").get_json()


def test_an_unknown_address_and_a_wrong_password_get_the_same_answer(ada: Api, stranger: Api) -> None:
    answers = [log_in(stranger, email, "a wrong password") for email in (new_email(), ada.user["email"])]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert all(answer.headers["WWW-Authenticate"].startswith("Bearer") for answer in answers)
    unknown, wrong = ({**answer.get_json(), "request_id": None} for answer in answers)
    assert unknown == wrong


def test_an_unknown_address_takes_as_long_as_a_wrong_password(ada: Api, stranger: Api) -> None:
    log_in(stranger, new_email())  # the first one of a process makes the hash that stands in for nobody's

    def duration_s(email: str) -> float:  # of this thread: others may keep the processor busy
        started = time.thread_time()
        log_in(stranger, email, "a wrong password")
        return time.thread_time() - started

    wrong = min(duration_s(ada.user["email"]) for _ in range(6))
    unknown = min(duration_s(new_email()) for _ in range(6))
    assert 0.5 < unknown / wrong < 2


# -- the account itself -----------------------------------------------------------------------------------


@pytest.mark.happy_path("get_me")
def test_me_is_not_sent_again_while_it_is_the_same(ada: Api) -> None:
    response = ada.get("/auth/me")
    assert response.get_json() == ada.user
    again = ada.get("/auth/me", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.get_data()) == (304, b"")


@pytest.mark.happy_path("update_me")
def test_a_new_password_ends_all_other_logins_and_keeps_this_one(ada: Api, stranger: Api) -> None:
    other, email = ada.log_in(), ada.user["email"]
    changed = ada.patch("/auth/me", {"current_password": PASSWORD, "password": NEW_PASSWORD})
    assert (changed.status_code, changed.get_json()) == (200, ada.user)
    assert is_refused_within_a_second(other)
    assert refresh(other).status_code == 401
    assert ada.get("/auth/me").status_code == 200
    assert refresh(ada).status_code == 200
    assert log_in(stranger, email).status_code == 401
    assert log_in(stranger, email, NEW_PASSWORD).status_code == 200


def test_a_wrong_current_password_changes_nothing(ada: Api, stranger: Api) -> None:
    other = ada.log_in()
    response = ada.patch("/auth/me", {"current_password": NEW_PASSWORD, "password": NEW_PASSWORD})
    assert response.status_code == 403
    assert refresh(other).status_code == 200
    assert log_in(stranger, ada.user["email"]).status_code == 200


def test_a_common_password_is_refused_at_a_change_too(ada: Api) -> None:
    response = ada.patch("/auth/me", {"current_password": PASSWORD, "password": "password1"})
    assert response.status_code == 400


@pytest.mark.parametrize("field", ["email", "role", "id"])
def test_only_the_password_can_be_changed(ada: Api, field: str) -> None:
    body = {"current_password": PASSWORD, "password": NEW_PASSWORD, field: "admin"}
    assert ada.patch("/auth/me", body).status_code == 400


def test_a_stale_version_is_neither_changed_nor_deleted(app: Flask, ada: Api) -> None:
    stale = {"If-Match": ada.get("/auth/me").headers["ETag"]}
    with app.app_context():
        auth.set_role(email=ada.user["email"], role="service")
        db.session.commit()
    ada = ada.log_in()
    body = {"current_password": PASSWORD, "password": NEW_PASSWORD}
    assert ada.patch("/auth/me", body, headers=stale).status_code == 412
    assert ada.delete("/auth/me", headers=stale).status_code == 412
    ada = ada.log_in()  # with the old password
    current = {"If-Match": ada.get("/auth/me").headers["ETag"]}
    assert ada.patch("/auth/me", body, headers=current).status_code == 200
    assert ada.delete("/auth/me", headers=current).status_code == 204


# -- erasing it -------------------------------------------------------------------------------------------


@pytest.mark.happy_path("delete_me")
def test_the_tokens_of_an_erased_account_stop_working(app: Flask, ada: Api) -> None:
    script = Api(app, ada.made("/auth/tokens", {"name": "script"})["token"])
    assert ada.delete("/auth/me").status_code == 204
    assert refresh(ada).status_code == 401
    assert script.get("/auth/me").status_code == 401
    assert is_refused_within_a_second(ada)


def test_a_copied_access_token_does_not_erase_the_account(app: Flask, ada: Api, bob: Api) -> None:
    """Refreshing makes the login no younger: the password has to be given, again or with the request."""
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=6)):
        pair = refresh(ada).get_json()
        for user in (ada, Api(app, pair["access_token"], ada.user)):
            for body in (None, {}, {"current_password": None}):
                refused = user.delete("/auth/me", json=body)
                assert (refused.status_code, refused.get_json()["code"]) == REFUSED
            wrong = user.delete("/auth/me", json={"current_password": "a wrong password"})
            assert (wrong.status_code, wrong.get_json()["code"]) == (403, "forbidden")
        assert ada.delete("/auth/me", json={"current_password": PASSWORD}).status_code == 204
        assert bob.log_in().delete("/auth/me").status_code == 204


def test_the_password_of_an_erasure_comes_in_a_body_like_any_other(ada: Api) -> None:
    for raw, kind, status in (
        (b'{"current_password"', "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"password": "x"}', "application/json", 400),
        (b"current_password=x", "application/x-www-form-urlencoded", 415),
    ):
        assert ada.delete("/auth/me", data=raw, content_type=kind).status_code == status
    assert ada.delete("/auth/me", content_type="application/json").status_code == 204  # with a recent login


def test_guesses_at_the_password_of_an_erasure_are_counted(ada: Api) -> None:
    statuses = {ada.delete("/auth/me", json={"current_password": "wrong"}).status_code for _ in range(11)}
    assert statuses == {403, 429}


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_token_that_outlives_its_account_for_a_moment_makes_nothing(ada: Api, idempotent: bool) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/chat/conversations": {"user_id": ada.user_id, "title": "T"},
        "/chat/llm-providers": {"name": "P", "api_endpoint": "https://p.example"},
        "/auth/tokens": {"name": "script"},
    }
    headers = {"Idempotency-Key": "k"} if idempotent else {}
    assert ada.delete("/auth/me").status_code == 204
    statuses = {path: ada.post(path, body, headers=headers).status_code for path, body in bodies.items()}
    statuses["me"] = ada.get("/auth/me").status_code
    assert set(statuses.values()) <= {401, 404}, statuses


def test_the_address_of_an_erased_account_can_register_again(ada: Api, stranger: Api) -> None:
    email = ada.user["email"]
    assert ada.delete("/auth/me").status_code == 204
    assert log_in(stranger, email).status_code == 401
    again = register(stranger, email, NEW_PASSWORD)
    assert again.status_code == 201
    assert again.get_json()["id"] != ada.user_id
    assert log_in(stranger, email, NEW_PASSWORD).status_code == 200


def test_a_login_does_not_survive_a_password_change_that_overtakes_it(app: Flask, ada: Api) -> None:
    """The old password was right when it was looked at, but a new one ends all logins: also the one that begins."""
    with app.app_context(), db.engine.connect() as changing:
        new_hash = passwords.hash_password("another long password")
        changing.execute(sa.update(User).where(User.id == ada.user_id).values(password_hash=new_hash))
        with ThreadPoolExecutor(1) as thread:
            credentials = {"email": ada.user["email"], "password": PASSWORD}
            login = thread.submit(Api(app).post, "/auth/login", credentials)
            time.sleep(0.5)  # it has compared the old password by now, and waits for the row
            changing.commit()
            assert login.result().status_code == 401


def login_of(app: Flask, user: Api) -> TestResponse:
    return log_in(Api(app), user.user["email"])


@pytest.mark.parametrize("backend", ["postgres"], indirect=True, scope="session")
def test_a_login_that_begins_while_its_account_is_erased_is_refused(app: Flask, ada: Api) -> None:
    """On SQLite one of the two waits for the other. Here the deletion has locked the user, and takes its time."""
    for _ in range(3):  # logins that it ends
        ada.log_in()
    with ThreadPoolExecutor(1) as thread, app.app_context():
        erasure = erase_account(user_id=ada.user_id)
        next(erasure)
        login = thread.submit(login_of, app, ada)
        time.sleep(0.5)  # it has compared the password by now, and waits for the user
        assert not login.done()
        db.session.commit()
        assert login.result().status_code == 401
        for _ in erasure:
            db.session.commit()


@pytest.mark.parametrize("backend", ["postgres"], indirect=True, scope="session")
def test_a_login_that_an_erasure_overtakes_ends_with_its_account(app: Flask, ada: Api) -> None:
    """The login has the user's lock, and the deletion begins before it is committed."""
    with ThreadPoolExecutor(1) as thread, app.app_context():
        pair = auth.log_in(email=ada.user["email"], password=PASSWORD, network="192.0.2.0")
        deletion = thread.submit(ada.delete, "/auth/me")
        time.sleep(0.5)
        assert not deletion.done()
        db.session.commit()
        assert deletion.result().status_code == 204
    late = Api(app, pair.access_token, refresh_token=pair.refresh_token)
    assert is_refused_within_a_second(late)
    assert refresh(late).status_code == 401


def test_logins_and_an_erasure_at_once_leave_no_login_behind(
    app: Flask, make_user: Callable[..., Api]
) -> None:
    for _ in range(3):
        user, start = make_user(), threading.Barrier(5)

        def begin(number: int, user: Api = user, start: threading.Barrier = start) -> TestResponse:
            start.wait()
            if number == 0:
                time.sleep(0.05)  # the logins hash
                return user.delete("/auth/me")
            return login_of(app, user)

        with ThreadPoolExecutor(5) as pool:
            deletion, *logins = pool.map(begin, range(5))
        assert deletion.status_code == 204
        assert {answer.status_code for answer in logins} <= {200, 401}
        for answer in logins:
            if answer.status_code == 200:
                assert is_refused_within_a_second(Api(app, answer.get_json()["access_token"]))
