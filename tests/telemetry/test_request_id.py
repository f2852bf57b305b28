"""X-Request-ID: every response has one, the client's own where it is sane."""

import re

import pytest

from tests.support.api import Api


@pytest.mark.parametrize(
    "request_id", ["abc-123", "x" * 128, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]
)
def test_sane_request_id_is_taken(user: Api, request_id: str) -> None:
    assert user.get("/auth/me", headers={"X-Request-ID": request_id}).headers.getlist("X-Request-ID") == [
        request_id
    ]


@pytest.mark.parametrize(
    "request_id",
    [None, "", "x" * 129, "a b", "a;b", "é", "a\tb", '"', "<script>", "a,b", "a/b", "a:b", "a=b", "a+b"],
)
def test_other_request_ids_are_replaced(user: Api, request_id: str | None) -> None:
    headers = {} if request_id is None else {"X-Request-ID": request_id}
    made = {user.get("/auth/me", headers=headers).headers["X-Request-ID"] for _ in range(2)}
    assert len(made) == 2
    assert request_id not in made
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("PUT", "/healthz", 405), ("GET", "/healthz", 200), ("GET", "/docs", 200),
     ("GET", "/docs/", 200), ("OPTIONS", "/healthz", 200), ("HEAD", "/healthz", 200), ("POST", "/chat/messages", 401)],
)  # fmt: skip
def test_every_response_has_a_request_id(stranger: Api, method: str, path: str, status: int) -> None:
    response = stranger.request(method, path, headers={"X-Request-ID": "mine"})
    assert (response.status_code, response.headers["X-Request-ID"]) == (status, "mine")
