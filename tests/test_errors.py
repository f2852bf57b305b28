"""Every error is a problem of RFC 9457: ours, those of the framework, and those that nobody expected."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.exceptions import default_exceptions
from werkzeug.test import TestResponse

from chat_api import errors
from chat_api.database.columns import new_id
from chat_api.telemetry.logs import JsonFormatter
from tests.conftest import serving
from tests.support.api import PASSWORD, Api, new_email
from tests.support.bodies import Body
from tests.support.problems import assert_problem


def test_every_refusal_has_the_same_shape(user: Api, own_ids: dict[str, str], body_for: Body) -> None:
    """One of each status that clients meet; 413 and 415 are in tests/web/test_json_body.py, 500 is further down."""
    conversation = body_for("/chat/conversations")
    key = {"Idempotency-Key": new_id()}
    user.made("/chat/conversations", conversation, headers=key)
    user.post("/chat/user-llm-configs", body_for("/chat/user-llm-configs"))
    refusals = {
        400: user.post("/chat/conversations", conversation | {"title": []}),
        401: user.get("/auth/me", headers={"Authorization": "Bearer x"}),
        403: user.post("/chat/conversations", conversation | {"user_id": new_id()}),
        404: user.get(f"/chat/conversations/{new_id()}"),
        405: user.delete("/chat/messages"),
        409: user.post("/chat/user-llm-configs", body_for("/chat/user-llm-configs")),
        412: user.delete("/auth/me", headers={"If-Match": '"stale"'}),
        422: user.post("/chat/conversations", conversation | {"title": "Another"}, headers=key),
    }
    for status, response in refusals.items():
        assert_problem(response, status, *(["title"] if status == 400 else []))
    assert refusals[405].headers["Allow"] == "OPTIONS, POST"


def test_database_that_is_away_is_503(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path / 'missing' / 'chat.db'}", tmp_path) as app:
        for response in (
            Api(app).get("/readyz"),
            Api(app).post("/auth/register", {"email": new_email(), "password": PASSWORD}),
            Api(app).post("/auth/login", {"email": new_email(), "password": PASSWORD}),
        ):
            assert_problem(response, 503)
            assert int(response.headers["Retry-After"]) > 0
        assert Api(app).get("/healthz").status_code == 200


@pytest.fixture
def raising(tmp_path: Path) -> Iterator[Callable[[BaseException], TestResponse]]:
    """Have a view raise an error; the answer."""
    with serving(f"sqlite:///{tmp_path / 'chat.db'}", tmp_path) as app:
        pending: list[BaseException] = []

        def raise_it() -> Any:
            raise pending.pop()

        app.add_url_rule("/raise", view_func=raise_it)

        def answer_to(error: BaseException) -> TestResponse:
            pending.append(error)
            return Api(app).get("/raise")

        yield answer_to


def errors_of_ours(kind: Any = errors.ApiError) -> Iterator[errors.ApiError]:
    """One of each class in the error tree, made with as few arguments as it takes."""
    problem = errors.problem_body(kind.status, kind.code, "why")
    ways: Any = [((), {}), ((problem,), {}), (("why",), {"retry_after_s": 3})]
    if not issubclass(kind, errors.ProviderFailed):
        ways[1] = (("why",), {})
    for arguments, named in ways:
        try:
            yield kind(*arguments, **named)
            break
        except TypeError:
            continue
    for child in kind.__subclasses__():
        yield from errors_of_ours(child)


OURS = {type(error).__name__: error for error in errors_of_ours()}


@pytest.mark.parametrize("error", OURS.values(), ids=OURS)
def test_error_of_ours_is_a_problem(raising: Callable[..., TestResponse], error: errors.ApiError) -> None:
    problem = assert_problem(raising(error), error.status)
    assert (problem["code"], problem["detail"]) == (error.code, error.detail)


def test_error_tree_is_complete() -> None:
    assert len(OURS) >= 14
    assert {400, 401, 403, 404, 408, 409, 412, 413, 415, 416, 422, 429, 500, 502, 503, 504} == {
        error.status for error in OURS.values()
    }


def test_the_tree_in_the_docstring_has_all_errors_where_they_belong() -> None:
    def lines(base: type[errors.ApiError], depth: int) -> list[str]:
        return [
            line
            for error in base.__subclasses__()
            if error.__module__ == errors.__name__
            for line in (f"{' ' * 4 * depth}{error.__name__} {error.status}", *lines(error, depth + 1))
        ]

    tree = re.findall(r"^( +\w+) +(\d{3}) ", errors.__doc__ or "", re.MULTILINE)
    assert sorted(f"{name} {status}" for name, status in tree) == sorted(lines(errors.ApiError, 1))


@pytest.mark.parametrize("status", sorted(default_exceptions))
def test_error_of_the_framework_is_a_problem(raising: Callable[..., TestResponse], status: int) -> None:
    problem = assert_problem(raising(default_exceptions[status]()), status)
    assert re.fullmatch("[a-z_']+", problem["code"])


def test_unexpected_error_tells_the_client_nothing_and_the_log_everything(
    raising: Callable[..., TestResponse],
) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    logging.getLogger("chat_api").addHandler(handler)
    try:
        response = raising(ZeroDivisionError("the-secret-of-the-error"))
    finally:
        logging.getLogger("chat_api").removeHandler(handler)
    problem = assert_problem(response, 500)
    assert "secret" not in response.get_data(as_text=True)
    assert "ZeroDivisionError" not in response.get_data(as_text=True)
    line = json.loads(written.getvalue())
    assert (line["level"], line["request_id"]) == ("error", problem["request_id"])
    assert line["traceback"][-1] == "ZeroDivisionError: the-secret-of-the-error"
    assert any("raise_it" in frame for frame in line["traceback"])
