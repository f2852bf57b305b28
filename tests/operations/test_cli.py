"""The operator's commands: `flask users`, `flask keys`, `flask search`, `flask purge`."""

import time
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result
from flask import Flask

from chat_api.auth.models import Login, PersonalAccessToken, RevokedLogin, ThrottleCounter
from chat_api.database.columns import new_id, now
from chat_api.database.session import db
from chat_api.files import texts
from chat_api.idempotency.models import IdempotencyKey, RecentRequest
from chat_api.search import extractor
from config import Config
from tests.support.api import PASSWORD, Api, new_email
from tests.support.cli import run_flask
from tests.support.tables import owned_rows
from tests.support.uploads import uploaded


def run(app: Flask, *arguments: str, typed: str | None = None) -> Result:
    return run_flask(lambda: app, *arguments, stdin=typed)


def failure(app: Flask, *arguments: str) -> str:
    """The one line with which a command fails."""
    result = run(app, *arguments)
    assert result.exit_code == 1, result.output
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    return result.output


# -- users ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["user", "admin", "service"])
def test_users_create_makes_an_account_of_any_role(app: Flask, role: str) -> None:
    email = new_email()
    result = run(app, "users", "create", email, "--role", role, "--password", PASSWORD)
    assert result.exit_code == 0, result.output
    user = Api(app, user={"email": email}).log_in().user
    assert user["role"] == role
    assert user["id"] in result.output
    assert PASSWORD not in result.output


def test_users_create_asks_for_the_password_and_does_not_show_it(app: Flask) -> None:
    email = new_email()
    result = run(app, "users", "create", email, typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output
    assert Api(app, user={"email": email}).log_in().user["role"] == "user"


def test_users_create_has_the_rules_of_registering(app: Flask, ada: Api) -> None:
    email = new_email()
    assert "already" in failure(app, "users", "create", ada.user["email"].upper(), "--password", PASSWORD)
    assert "common" in failure(app, "users", "create", email, "--password", "password1")
    assert failure(app, "users", "create", email, "--password", "short")
    assert failure(app, "users", "create", email, "--password", "x" * 129)
    assert "email" in failure(app, "users", "create", "not an address", "--password", PASSWORD)
    assert run(app, "users", "create", email, "--role", "root", "--password", PASSWORD).exit_code == 2
    assert Api(app).post("/auth/login", {"email": email, "password": "short"}).status_code == 401


def test_users_set_role_changes_the_role_and_ends_the_logins(app: Flask, ada: Api, bob: Api) -> None:
    other = ada.log_in()
    result = run(app, "users", "set-role", ada.user["email"].upper(), "admin")
    assert result.exit_code == 0, result.output
    assert Api(app, ada.refresh_token).post("/auth/refresh").status_code == 401
    time.sleep(0.6)
    assert [api.get("/auth/me").status_code for api in (ada, other, bob)] == [401, 401, 200]
    admin = ada.log_in()
    assert admin.user["role"] == "admin"
    assert admin.provider(shared=True)["owner_id"] is None


def test_users_delete_erases_after_asking(app: Flask, ada: Api) -> None:
    ada.message(ada.conversation()["id"])
    email = ada.user["email"]
    assert run(app, "users", "delete", email, typed="n\n").exit_code == 1
    assert owned_rows(app, ada.user_id)["messages"] == 1
    result = run(app, "users", "delete", email, "--yes")
    assert result.exit_code == 0, result.output
    assert not any(owned_rows(app, ada.user_id).values())
    assert Api(app, ada.refresh_token).post("/auth/refresh").status_code == 401
    time.sleep(0.6)
    assert ada.get("/auth/me").status_code == 401


@pytest.mark.parametrize(
    "command", [("set-role", "nobody@example.org", "admin"), ("delete", "nobody@example.org", "--yes")]
)
def test_a_command_about_nobody_says_so(app: Flask, command: tuple[str, ...]) -> None:
    assert "no such user" in failure(app, "users", *command)


# -- keys -------------------------------------------------------------------------------------------------


def test_keys_generate_prints_secrets_that_production_takes(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(app, "keys", "generate")
    settings = dict(line.split("=", 1) for line in result.output.splitlines())
    assert set(settings) == {"JWT_SECRET_KEY", "ENCRYPTION_KEYS"}
    for name, value in {**settings, "APP_ENV": "production"}.items():
        monkeypatch.setenv(name, value)
    assert Config.from_environment().APP_ENV == "production"
    assert run(app, "keys", "generate").output != result.output


# -- search -----------------------------------------------------------------------------------------------


def test_search_documents_counts_and_tries_again(only_user: Api) -> None:
    ada, app = only_user, only_user.app  # of nobody else, whose files would be extracted, too
    for content, name in ((b"A text", "a.txt"), (b"%PDF-1.4\n nothing of a PDF", "b.pdf")):
        uploaded(ada, content, name=name, claimed="")
    with app.app_context():
        waiting = texts.count_states()["waiting"]
        extractor.work_through()
    assert waiting == 2
    counted = run(app, "search", "documents")
    assert "failed: unreadable " in counted.output
    assert "waiting" not in counted.output
    again = run(app, "search", "documents", "--again")
    assert (again.exit_code, again.output.startswith("To be tried again: ")) == (0, True)
    assert "failed" not in again.output
    assert "waiting " in again.output


# -- purge ------------------------------------------------------------------------------------------------


def test_purge_deletes_what_has_expired_and_nothing_else(only_user: Api) -> None:
    ada, app = only_user, only_user.app
    past, future = now() - timedelta(seconds=1), now() + timedelta(minutes=5)
    rows: dict[str, Any] = {}
    with app.app_context():
        for name, moment in (("dead", past), ("alive", future)):
            keyed = moment - timedelta(hours=24)
            rows[name] = [
                Login(user_id=ada.user_id, refresh_token_id=new_id(), expires_at=moment, ends_at=future),
                PersonalAccessToken(user_id=ada.user_id, name=name, secret_hash="0" * 64, expires_at=moment),
                IdempotencyKey(
                    user_id=ada.user_id, id=name, fingerprint="f", status=201, answer="a", created_at=keyed
                ),
                RecentRequest(
                    user_id=ada.user_id,
                    id=new_id(),
                    digest="d",
                    tries=0,
                    object_ids="",
                    created_at=moment - timedelta(minutes=15),
                ),
                RevokedLogin(login_id=new_id(), revoked_at=past, expires_at=moment),
                ThrottleCounter(key=f"{ada.user_id} {name}", count=1, expires_at=moment),
            ]
        for row in rows["dead"] + rows["alive"]:
            db.session.add(row)
        db.session.commit()
        identities = {name: [sa.inspect(row).identity for row in made] for name, made in rows.items()}

    result = run(app, "purge")
    assert result.exit_code == 0, result.output
    assert int(result.output.split()[1]) >= 6
    kinds = [type(row) for row in rows["dead"]]
    with app.app_context():
        left = {name: [db.session.get(*pair) is not None for pair in zip(kinds, keys, strict=True)]
                for name, keys in identities.items()}  # fmt: skip
    assert left == {"dead": [False] * 6, "alive": [True] * 6}
    assert ada.get("/auth/me").status_code == 200
    assert Api(app, ada.refresh_token).post("/auth/refresh").status_code == 200
