"""Access, refresh and personal access tokens: what is accepted, what is not, and when it ends."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.auth.models import PersonalAccessToken
from chat_api.auth.tokens import MAX_PERSONAL_DAYS, MAX_PERSONAL_TOKENS
from chat_api.database.session import db
from tests.support.api import PASSWORD, Api
from tests.support.problems import assert_problem
from tests.support.tables import everything_stored


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(app: Flask, header: bytes, payload: bytes, digest: str = "sha256") -> str:
    """A token of any header and payload, signed with the service's own secret."""
    content = f"{base64url(header)}.{base64url(payload)}"
    secret = app.config["JWT_SECRET_KEY"].encode()
    return f"{content}.{base64url(hmac.digest(secret, content.encode(), digest))}"


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def status_of(app: Flask, token: str) -> int:
    response = Api(app, token).get("/auth/me")
    if response.status_code == 401:
        assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    return response.status_code


def refresh(app: Flask, token: str | None) -> TestResponse:
    return Api(app, token).post("/auth/refresh")


def comes_true_within_a_second(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 1
    while not (is_true := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_true


# -- refreshing and logging out ---------------------------------------------------------------------------


@pytest.mark.happy_path("refresh")
def test_a_refresh_gives_a_new_pair_that_works(app: Flask, ada: Api) -> None:
    response = refresh(app, ada.refresh_token)
    assert response.status_code == 200
    pair = response.get_json()
    assert pair["user"] == ada.user
    assert pair["refresh_token"] != ada.refresh_token
    assert status_of(app, pair["access_token"]) == 200
    assert refresh(app, pair["refresh_token"]).status_code == 200


def test_two_tabs_that_refresh_at_once_each_get_a_good_pair(app: Flask, ada: Api) -> None:
    with ThreadPoolExecutor() as pool:
        pairs = [
            answer.get_json() for answer in pool.map(lambda _: refresh(app, ada.refresh_token), range(4))
        ]
    assert (
        len({claims_of(pair["refresh_token"])["jti"] for pair in pairs}) == 1
    )  # one that has not been used, as ever
    time.sleep(1.1)  # until a revocation would be known
    for pair in pairs:
        assert status_of(app, pair["access_token"]) == 200
        assert refresh(app, pair["refresh_token"]).status_code == 200


def test_a_refresh_whose_answer_got_lost_can_be_repeated_for_ten_seconds(app: Flask, ada: Api) -> None:
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        lost = refresh(app, ada.refresh_token).get_json()
        newer = refresh(app, lost["refresh_token"]).get_json()  # another tab went on with it
        clock.shift(9)
        repeated = refresh(app, ada.refresh_token).get_json()
        assert status_of(app, repeated["access_token"]) == 200
        assert refresh(app, newer["refresh_token"]).status_code == 200
        assert refresh(app, repeated["refresh_token"]).status_code == 200
        clock.shift(2)
        assert refresh(app, ada.refresh_token).status_code == 401
        clock.shift(1)
        assert status_of(app, repeated["access_token"]) == 401


def test_a_token_that_is_remembered_expires_and_ends_all_the_same(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = str(ada.token)
    expires_at = claims_of(first)["exp"]
    with time_machine.travel(expires_at - 1, tick=False) as clock:
        other = str(ada.log_in().token)
        assert [status_of(app, token) for token in (first, first, other)] == [200, 200, 200]
        clock.shift(1)
        assert [status_of(app, token) for token in (first, other)] == [401, 200]
        clock.shift(-1)
        monkeypatch.setitem(app.config, "JWT_SECRET_KEY", "another secret of at least 32 characters")
        assert [status_of(app, token) for token in (first, other)] == [401, 401]


def test_using_a_refresh_token_twice_ends_that_login_and_no_other(app: Flask, ada: Api, bob: Api) -> None:
    other = ada.log_in()
    newest = refresh(app, ada.refresh_token).get_json()
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=11)):
        assert refresh(app, ada.refresh_token).status_code == 401
    assert refresh(app, newest["refresh_token"]).status_code == 401
    assert comes_true_within_a_second(lambda: status_of(app, newest["access_token"]) == 401)
    assert status_of(app, str(ada.token)) == 401
    for lasting in (other, bob):
        assert lasting.get("/auth/me").status_code == 200
        assert refresh(app, lasting.refresh_token).status_code == 200


def test_neither_token_of_a_pair_stands_in_for_the_other(app: Flask, ada: Api) -> None:
    assert status_of(app, str(ada.refresh_token)) == 401
    assert refresh(app, ada.token).status_code == 401
    assert refresh(app, None).status_code == 401
    assert refresh(app, ada.refresh_token).status_code == 200  # and nothing of it ended the login


@pytest.mark.happy_path("log_out")
def test_logging_out_ends_both_tokens_of_this_login_only(app: Flask, ada: Api) -> None:
    other = ada.log_in()
    assert ada.post("/auth/logout").status_code == 204
    assert refresh(app, ada.refresh_token).status_code == 401
    assert comes_true_within_a_second(lambda: ada.get("/auth/me").status_code == 401)
    assert other.get("/auth/me").status_code == 200


def test_tokens_expire(app: Flask, ada: Api) -> None:
    access_life = timedelta(minutes=app.config["ACCESS_TOKEN_MINUTES"])
    with time_machine.travel(datetime.now(UTC) + access_life - timedelta(seconds=10)):
        assert ada.get("/auth/me").status_code == 200
    with time_machine.travel(datetime.now(UTC) + access_life + timedelta(seconds=1)):
        assert ada.get("/auth/me").status_code == 401
        pair = refresh(app, ada.refresh_token).get_json()
    with time_machine.travel(datetime.now(UTC) + timedelta(days=app.config["REFRESH_TOKEN_DAYS"], hours=1)):
        assert refresh(app, pair["refresh_token"]).status_code == 401


def test_a_login_ends_at_its_last_day_however_often_it_was_refreshed(app: Flask, ada: Api) -> None:
    started, token = datetime.now(UTC), ada.refresh_token
    statuses = []
    for day in range(25, 200, 25):
        with time_machine.travel(started + timedelta(days=day)):
            response = refresh(app, token)
            statuses.append(response.status_code)
            token = response.get_json().get("refresh_token")
        if token is None:
            break
    assert statuses == [200] * 7  # the last one after 175 of 180 days
    with time_machine.travel(started + timedelta(days=181)):
        assert refresh(app, token).status_code == 401


# -- what is no token of ours -----------------------------------------------------------------------------

HEADER = b'{"alg":"HS256","typ":"JWT"}'


def without_signature(app: Flask, token: str) -> str:
    return token.rpartition(".")[0] + "."


def with_another_signature(app: Flask, token: str) -> str:
    return jwt.encode(claims_of(token), "another secret, which is long enough too", "HS256")


def with_changed_claims(app: Flask, token: str) -> str:
    header, _, signature = token.split(".")
    payload = json.dumps({**claims_of(token), "role": "admin"}).encode()
    return f"{header}.{base64url(payload)}.{signature}"


def unsecured(app: Flask, token: str) -> str:
    return jwt.encode(claims_of(token), "", "none")


def unsecured_in_odd_case(app: Flask, token: str) -> str:
    header = base64url(b'{"alg":"nOnE","typ":"JWT"}')
    return f"{header}.{token.split('.')[1]}."


def by_hs512(app: Flask, token: str) -> str:
    return jwt.encode(claims_of(token), app.config["JWT_SECRET_KEY"], "HS512")


def by_hs512_that_says_hs256(app: Flask, token: str) -> str:
    return signed(app, HEADER, json.dumps(claims_of(token)).encode(), "sha512")


def of_another_issuer(app: Flask, token: str) -> str:
    return jwt.encode({**claims_of(token), "iss": "another-api"}, app.config["JWT_SECRET_KEY"], "HS256")


def without(name: str) -> Callable[[Flask, str], str]:
    def token_without(app: Flask, token: str) -> str:
        claims = {key: value for key, value in claims_of(token).items() if key != name}
        return jwt.encode(claims, app.config["JWT_SECRET_KEY"], "HS256")

    token_without.__name__ = f"without_{name}"
    return token_without


def expired(app: Flask, token: str) -> str:
    return jwt.encode({**claims_of(token), "exp": time.time() - 1}, app.config["JWT_SECRET_KEY"], "HS256")


def expired_with_unusual_header(app: Flask, token: str) -> str:
    claims = {**claims_of(token), "exp": int(time.time()) - 1}
    return signed(app, b'{"typ":"JWT","alg":"HS256"}', json.dumps(claims).encode())


def deep_payload(app: Flask, token: str) -> str:
    return signed(app, HEADER, b'{"sub":' + b"[" * 1400 + b"]" * 1400 + b"}")


def deep_payload_with_unusual_header(app: Flask, token: str) -> str:
    return signed(app, b'{"typ":"JWT","alg":"HS256"}', b"[" * 1400 + b"]" * 1400)


def deep_header(app: Flask, token: str) -> str:
    return signed(app, b'{"alg":' + b"[" * 1400 + b"]" * 1400 + b"}", b"{}")


def no_object(app: Flask, token: str) -> str:
    return signed(app, HEADER, b'["sub"]')


def claims_of_wrong_types(app: Flask, token: str) -> str:
    payload = {**claims_of(token), "sub": 1, "sid": None, "jti": ["x"]}
    return signed(app, HEADER, json.dumps(payload).encode())


def with_claims(**claims: Any) -> Callable[[Flask, str], str]:
    """A token with odd values, signed with the service's own secret."""

    def forge(app: Flask, token: str) -> str:
        return signed(app, HEADER, json.dumps({**claims_of(token), **claims}).encode())

    forge.__name__ = "with_" + "_".join(f"{name}_{value!r}" for name, value in claims.items())
    return forge


ODD_TIMES: list[Any] = ["2100-01-01", str(10**10), None, True, [10**10], {}]
ODD_CLAIMS = [
    *[with_claims(exp=value) for value in ODD_TIMES],
    *[with_claims(nbf=value) for value in (*ODD_TIMES, 10**11)],
    *[with_claims(sub=value) for value in ("ada", "", 7, None, ["x"], "0" * 36)],
    *[with_claims(sid=value) for value in ("x", "", None, {"a": 1})],
    *[with_claims(jti=value) for value in ("x", 1)],
    *[with_claims(role=value) for value in ("root", None, ["admin"], {"admin": 1})],
    with_claims(iss=["chat-api"]),
    with_claims(type=["access"]),
]


def header_that_names_a_key(app: Flask, token: str) -> str:
    headers = {"jwk": {"kty": "oct", "k": base64url(b"k" * 32)}}
    return jwt.encode(claims_of(token), b"k" * 32, "HS256", headers=headers)


FORGERIES: list[Callable[[Flask, str], str]] = [
    without_signature,
    with_another_signature,
    with_changed_claims,
    unsecured,
    unsecured_in_odd_case,
    by_hs512,
    by_hs512_that_says_hs256,
    of_another_issuer,
    *[without(name) for name in ("iss", "type", "exp", "sub", "sid", "jti")],
    expired,
    expired_with_unusual_header,
    deep_payload,
    deep_payload_with_unusual_header,
    deep_header,
    no_object,
    claims_of_wrong_types,
    *ODD_CLAIMS,
    header_that_names_a_key,
]


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forged_token_is_refused(app: Flask, ada: Api, forge: Callable[[Flask, str], str]) -> None:
    assert status_of(app, forge(app, str(ada.token))) == 401


NO_TOKENS = ["x", "..", "a.b.c", "é" * 20, "ÿ.ÿ.ÿ", "a" * 5000, "." * 5000, "null", "{}", f"{base64url(HEADER)}.é.é",
             "chat_pat_", "chat_pat_" + "0" * 64, "chat_pat_" + "0" * 64 + "_é", "chat_pat_" + "x" * 5000]  # fmt: skip


def test_what_is_no_token_is_refused(app: Flask) -> None:
    for token in NO_TOKENS:
        assert status_of(app, token) == 401, token[:80]


def test_a_valid_token_with_a_trailing_part_is_refused(app: Flask, ada: Api) -> None:
    for token in (f"{ada.token}.", f"{ada.token}.x", f".{ada.token}", f"{ada.token} x", f"{ada.token},x"):
        assert status_of(app, token) == 401


@pytest.mark.parametrize(
    "header", [b'{"typ":"JWT","alg":"HS256"}', b'{ "alg" : "HS256" }', b'{"alg":"HS256","typ":"JWT","x":1}']
)
def test_the_header_may_be_written_in_any_valid_way(app: Flask, ada: Api, header: bytes) -> None:
    payload = json.dumps(claims_of(str(ada.token))).encode()
    assert status_of(app, signed(app, header, payload)) == 200


# -- the Authorization header -----------------------------------------------------------------------------


def test_the_scheme_is_read_in_any_case(ada: Api, stranger: Api) -> None:
    for scheme in ("Bearer", "bearer", "BEARER", "bEaReR"):
        response = stranger.get("/auth/me", headers={"Authorization": f"{scheme} {ada.token}"})
        assert response.status_code == 200, scheme


@pytest.mark.parametrize(
    "value", ["Basic YWRhOnB3", "Digest x", "Token {}", "{}", "Bearer", "Bearer ", "", "Bearer{}"]
)
def test_another_scheme_is_no_authentication(ada: Api, stranger: Api, value: str) -> None:
    response = stranger.get("/auth/me", headers={"Authorization": value.format(ada.token)})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert response.mimetype == "application/problem+json"


def test_a_token_in_the_query_is_not_looked_at(ada: Api, stranger: Api) -> None:
    assert stranger.get(f"/auth/me?access_token={ada.token}").status_code == 401


def test_without_a_token_the_challenge_names_no_error(stranger: Api) -> None:
    assert stranger.get("/auth/me").headers["WWW-Authenticate"] == "Bearer"


# -- personal access tokens -------------------------------------------------------------------------------


def make_script(user: Api, **body: Any) -> tuple[Api, dict[str, Any]]:
    made = user.made("/auth/tokens", {"name": "script", **body})
    return Api(user.app, made["token"], user.user), made


@pytest.mark.happy_path("create_token", "get_token", "list_tokens")
def test_a_personal_token_is_returned_once_and_stored_as_a_hash(app: Flask, ada: Api) -> None:
    script, made = make_script(ada)
    assert set(made) == {"id", "name", "expires_at", "created_at", "token"}
    (listed,) = ada.get("/auth/tokens").get_json()
    assert listed == {name: value for name, value in made.items() if name != "token"}
    assert ada.get(f"/auth/tokens/{made['id']}").get_json() == listed
    secret = made["token"].split("_", 3)[3]
    stored = everything_stored(app)
    assert secret not in stored
    assert hashlib.sha256(secret.encode()).hexdigest() in stored
    assert script.get("/auth/me").get_json() == ada.user
    assert script.conversation()["user_id"] == ada.user_id


def test_a_personal_token_expires(ada: Api) -> None:
    script, made = make_script(ada, expires_in_days=2)
    expires_at = datetime.fromisoformat(made["expires_at"])
    assert expires_at - datetime.fromisoformat(made["created_at"]) == timedelta(days=2)
    with time_machine.travel(expires_at - timedelta(minutes=1)):
        assert script.get("/auth/me").status_code == 200
    with time_machine.travel(expires_at + timedelta(seconds=1)):
        assert script.get("/auth/me").status_code == 401


@pytest.mark.parametrize("days", [0, -1, 3651, 1.5, "2", True])
def test_a_life_that_is_no_sane_number_of_days_is_refused(ada: Api, days: Any) -> None:
    response = ada.post("/auth/tokens", {"name": "script", "expires_in_days": days})
    assert response.status_code == 400
    assert list(response.get_json()["errors"]) == ["expires_in_days"]


@pytest.mark.happy_path("delete_token")
def test_a_deleted_personal_token_is_refused_at_once(ada: Api) -> None:
    script, made = make_script(ada)
    other, _ = make_script(ada)
    assert ada.delete(f"/auth/tokens/{made['id']}").status_code == 204
    assert script.get("/auth/me").status_code == 401
    assert other.get("/auth/me").status_code == 200
    assert ada.delete(f"/auth/tokens/{made['id']}").status_code == 404


def test_nobody_deletes_or_lists_the_tokens_of_others(ada: Api, bob: Api) -> None:
    script, made = make_script(ada)
    assert bob.delete(f"/auth/tokens/{made['id']}").status_code == 404
    assert bob.get("/auth/tokens").get_json() == []
    assert script.get("/auth/me").status_code == 200


def test_a_personal_token_opens_with_its_whole_secret_only(app: Flask, ada: Api, bob: Api) -> None:
    token = make_script(ada)[1]["token"]
    bobs = make_script(bob)[1]["token"]
    names, secret = token[: len("chat_pat_") + 64], token[len("chat_pat_") + 65 :]
    with_the_secret_of_another = f"{names}_{bobs[len('chat_pat_') + 65 :]}"
    for wrong in (
        f"{names}_",
        f"{names}_{secret[:-1]}",
        f"{names}_{secret}x",
        with_the_secret_of_another,
        names,
    ):
        assert status_of(app, wrong) == 401
    assert status_of(app, token) == 200


def create_token(user: Api, **body: Any) -> TestResponse:
    return user.post("/auth/tokens", {"name": "script", "expires_in_days": 1, **body})


def refreshed(user: Api) -> Api:
    pair = refresh(user.app, user.refresh_token).get_json()
    return Api(user.app, pair["access_token"], user.user, pair["refresh_token"])


def test_a_copied_access_token_becomes_no_personal_token(ada: Api) -> None:
    """It may be of any age, and refreshing makes the login no younger: the password has to be given again."""
    later = datetime.now(UTC) + timedelta(minutes=6)
    with time_machine.travel(later):
        for user in (ada, refreshed(ada)):
            refused = create_token(user)
            assert (refused.status_code, refused.get_json()["code"]) == (403, "recent_login_required")
            wrong = create_token(user, current_password="a wrong password")
            assert (wrong.status_code, wrong.get_json()["code"]) == (403, "forbidden")
            assert create_token(user, current_password=PASSWORD).status_code == 201
        assert create_token(ada.log_in()).status_code == 201
    assert len(ada.get("/auth/tokens").get_json()) == 3


def test_an_ended_login_creates_no_token_that_outlives_it(app: Flask, ada: Api) -> None:
    """The access token may still be accepted for half a second after a new password has ended all tokens."""
    other = ada.log_in()
    ada.get("/auth/me")  # the copy of revoked logins is fresh now
    change = {"current_password": PASSWORD, "password": "nine lives of a tabby cat"}
    assert ada.patch("/auth/me", change).status_code == 200
    for password in ({}, {"current_password": "nine lives of a tabby cat"}):
        assert create_token(other, **password).status_code == 401
    assert ada.get("/auth/tokens").get_json() == []


@pytest.mark.parametrize(
    ("keep", "status"), [({}, 401), ({"keep_tokens": False}, 401), ({"keep_tokens": True}, 200)]
)
def test_a_new_password_ends_personal_tokens_unless_they_are_kept(
    ada: Api, bob: Api, keep: dict[str, bool], status: int
) -> None:
    script, _ = make_script(ada)
    others, _ = make_script(bob)
    change = {"current_password": PASSWORD, "password": "nine lives of a tabby cat", **keep}
    assert ada.patch("/auth/me", change).status_code == 200
    assert script.get("/auth/me").status_code == status
    assert others.get("/auth/me").status_code == 200


@pytest.mark.parametrize("keep", [1, "true"])
def test_whether_tokens_are_kept_is_true_or_false(ada: Api, keep: Any) -> None:
    change = {"current_password": PASSWORD, "password": "nine lives of a tabby cat", "keep_tokens": keep}
    assert_problem(ada.patch("/auth/me", change), 400, "keep_tokens")


def test_a_user_has_a_limited_number_of_tokens(ada: Api) -> None:
    short, longer = 1, 2
    for number in range(MAX_PERSONAL_TOKENS):
        assert create_token(ada, expires_in_days=longer if number else short).status_code == 201
    refused = create_token(ada)
    assert (refused.status_code, refused.get_json()["code"]) == (409, "too_many_tokens")
    with time_machine.travel(datetime.now(UTC) + timedelta(days=short, minutes=1)):  # one of them has expired
        user = ada.log_in()
        assert create_token(user).status_code == 201
        assert create_token(user).status_code == 409


def test_tokens_created_at_once_are_counted(ada: Api) -> None:
    for _ in range(MAX_PERSONAL_TOKENS - 2):
        create_token(ada)
    start = threading.Barrier(6)

    def create(_: int) -> int:
        start.wait()
        return create_token(ada).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(create, range(6))) == [201, 201, 409, 409, 409, 409]


@pytest.mark.parametrize(("role", "days"), MAX_PERSONAL_DAYS.items())
def test_the_more_a_token_may_do_the_shorter_it_lasts(
    make_user: Callable[..., Api], role: str, days: int
) -> None:
    user = make_user(role)
    assert create_token(user, expires_in_days=days).status_code == 201
    assert_problem(create_token(user, expires_in_days=days + 1), 400, "expires_in_days")


def test_a_token_of_somebody_who_becomes_an_admin_lasts_no_longer_than_an_admins(
    app: Flask, ada: Api
) -> None:
    long, short = (make_script(ada, expires_in_days=days)[1] for days in (3650, 3))
    result = app.test_cli_runner().invoke(args=["users", "set-role", ada.user["email"], "admin"])
    assert result.exit_code == 0, result.output
    expiries = {token["id"]: token["expires_at"] for token in ada.log_in().get("/auth/tokens").get_json()}
    latest = datetime.now(UTC) + timedelta(days=MAX_PERSONAL_DAYS["admin"])
    assert abs(datetime.fromisoformat(expiries[long["id"]]) - latest) < timedelta(minutes=1)
    assert expiries[short["id"]] == short["expires_at"]


def test_a_script_cannot_change_the_account(ada: Api) -> None:
    script, made = make_script(ada)
    answers = [
        script.patch("/auth/me", {"current_password": "x", "password": "nine lives of a cat"}),
        script.delete("/auth/me"),
        script.post("/auth/tokens", {"name": "another"}),
        script.delete(f"/auth/tokens/{made['id']}"),
        script.post("/auth/logout"),
    ]
    assert [answer.status_code for answer in answers] == [403] * 5
    assert script.get("/auth/me").status_code == 200
    assert len(ada.get("/auth/tokens").get_json()) == 1


def test_a_personal_token_outlives_logins_and_knows_the_role_of_today(
    app: Flask, ada: Api, make_user: Callable[..., Api]
) -> None:
    script, _ = make_script(ada)
    ada.post("/auth/logout")
    assert script.get("/auth/me").get_json()["role"] == "user"
    result = app.test_cli_runner().invoke(args=["users", "set-role", ada.user["email"], "admin"])
    assert result.exit_code == 0, result.output
    assert script.get("/auth/me").get_json()["role"] == "admin"
    assert script.provider(shared=True)["owner_id"] is None


def test_the_row_of_a_token_ends_with_its_user(app: Flask, ada: Api) -> None:
    script, made = make_script(ada)
    ada.delete("/auth/me")
    assert script.get("/auth/me").status_code == 401
    with app.app_context():
        query = sa.select(PersonalAccessToken.id).where(PersonalAccessToken.id == made["id"])
        assert db.session.scalar(query) is None


@pytest.mark.parametrize("header", [
    "", "Bearer", "Bearer ", "Basic YTpi", "Bearer x", "Bearer a.b.c", "Bearer é", "x" * 9000,
    "Bearer " + "." * 9000, "bearer\tx", "Bearer chat_pat_x", "Bearer eyJ9.e30.", "Token x",
])  # fmt: skip
def test_bad_token_is_401(stranger: Api, own_ids: dict[str, str], header: str) -> None:
    refused = stranger.get(
        f"/chat/conversations/{own_ids['conversation']}", headers={"Authorization": header}
    )
    assert_problem(refused, 401)
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
