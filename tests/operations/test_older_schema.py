"""The service on a database whose schema is older than it needs: 503 that says what to do, never 500."""

import gc
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from flask import Flask

from chat_api.operations.service import known_revisions
from tests.completions.chat import run_sql
from tests.conftest import serving
from tests.support.api import PASSWORD, Api, new_email
from tests.support.tables import fresh_database
from tests.test_migrations import MIGRATIONS

WITHOUT_TABLES = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/"}
# the newest one is the schema itself; all but the first and the one before it are tried at night
_FIRST, *_BETWEEN, _BEFORE = ["base", *known_revisions()[:0:-1]]
REVISIONS = [_FIRST, *(pytest.param(revision, marks=pytest.mark.nightly) for revision in _BETWEEN), _BEFORE]


@pytest.fixture
def url(backend: str, tmp_path: Path) -> Iterator[str]:
    with fresh_database(backend, tmp_path) as url:
        yield url


def registered(app: Flask) -> Api:
    body = {"email": new_email(), "password": PASSWORD}
    return Api(app, user=Api(app).made("/auth/register", body)).log_in()


def downgrade(app: Flask, revision: str) -> None:
    with app.app_context():
        flask_migrate.downgrade(directory=MIGRATIONS, revision=revision)


def responses_of_all_operations(user: Api) -> Iterator[tuple[str, Any]]:
    """Each operation of the document that uses the tables, with its own examples."""
    document = user.get("/openapi.json").get_json()
    # the account last: one operation erases it
    for path, operations in sorted(document["paths"].items(), key=lambda item: item[0].startswith("/auth")):
        for method, operation in operations.items():
            if path in WITHOUT_TABLES or method == "parameters":
                continue
            content = operation.get("requestBody", {}).get("content", {})
            body = content.get("application/json", {}).get("example")
            query = "?q=hello" if path == "/chat/search" else ""
            for name in ("conversation_id", "message_id", "user_id", "provider_id"):
                path = path.replace(f"{{{name}}}", user.user_id)  # noqa: PLW2901
            for part in path.split("/"):
                if part.startswith("{"):
                    path = path.replace(part, user.user_id)  # noqa: PLW2901
            headers = {"Idempotency-Key": uuid.uuid4().hex} if method == "post" and body else None
            # an export holds a connection and a slot until it is read
            response = user.request(method.upper(), path + query, json=body, headers=headers, buffered=True)
            yield f"{method} {path}", response


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_operation_is_refused_with_503_before_the_upgrade(
    url: str, tmp_path: Path, revision: str
) -> None:
    with serving(url, tmp_path) as app:
        user = registered(app)
        downgrade(app, revision)
    with serving(url, tmp_path) as app:
        user = Api(app, user.token, user=user.user)
        responses = list(responses_of_all_operations(user))
        assert len(responses) > 30
        for name, response in responses:
            assert response.status_code == 503, name
            assert "run `flask db upgrade`" in response.get_json()["detail"], name
        assert user.get("/readyz").status_code == 503
        assert user.get("/healthz").status_code == 200
        assert Api(app).get("/chat/conversations").status_code == 401
        assert Api(app).get("/nothing").status_code == 404
        with app.app_context():
            flask_migrate.upgrade(directory=MIGRATIONS)
        if revision != "base":
            assert user.get("/chat/conversations").status_code == 200
        assert registered(app).get("/chat/conversations").status_code == 200


@pytest.fixture(autouse=True)
def _collect_broken_connections() -> Iterator[None]:
    """A connection whose statement failed on the older schema may be dropped open; not in another test's time."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


# after which come only revisions that add what no example of the document reaches: a faster trigger
NOTHING_LACKS = ("0029",)


@pytest.mark.parametrize("revision", REVISIONS)
def test_no_operation_fails_with_500_when_the_schema_goes_back(
    url: str, tmp_path: Path, revision: str
) -> None:
    with serving(url, tmp_path) as app:
        user = registered(app)
        assert user.get("/chat/conversations").status_code == 200
        downgrade(app, revision)
        seen = set()
        for name, response in responses_of_all_operations(user):
            seen.add(response.status_code)
            assert response.status_code < 500 or response.status_code == 503, name
        assert (503 in seen) == (revision not in NOTHING_LACKS)


def test_a_newer_schema_is_let_pass(url: str, tmp_path: Path) -> None:
    with serving(url, tmp_path) as app:
        user = registered(app)
    with serving(url, tmp_path) as app:
        run_sql(app, "UPDATE alembic_version SET version_num = '9999'")
        assert Api(app, user.token).get("/chat/conversations").status_code == 200
        assert user.get("/readyz").status_code == 200, (
            "A balancer goes on sending requests while others are upgraded."
        )
