"""CORS: what a browser is told about pages of other origins."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from chat_api.web.cors import EXPOSED_HEADERS
from tests.conftest import serving
from tests.support.api import PASSWORD, Api

PAGE = "https://chat.example.org"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type",
}


@pytest.fixture
def browser_app(database_url: str, tmp_path: Path) -> Iterator[Flask]:
    with serving(database_url, tmp_path, CORS_ORIGINS=(PAGE, "http://localhost:5173")) as app:
        yield app


def test_a_preflight_passes_the_guard(browser_app: Flask) -> None:
    for origin in (PAGE, "http://localhost:5173"):
        for path in ("/auth/me", "/auth/login", "/chat/messages", "/chat/conversations", "/healthz"):
            answer = Api(browser_app).request("OPTIONS", path, headers={"Origin": origin, **PREFLIGHT})
            assert answer.status_code == 200
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert answer.headers["Access-Control-Allow-Headers"].lower() == "authorization, content-type"
            assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
            assert "Origin" in answer.headers["Vary"]
            assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://chat.example.org", f"{PAGE}:8443", f"{PAGE}.evil.example", "null",
     "https://CHAT.example.org.evil.example", "https://xchat.example.org", "http://localhost:51730"],
)  # fmt: skip
def test_another_origin_is_allowed_nothing(browser_app: Flask, origin: str) -> None:
    for method in ("OPTIONS", "GET"):
        answer = Api(browser_app).request(method, "/healthz", headers={"Origin": origin, **PREFLIGHT})
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


def test_answers_and_errors_can_be_read_with_their_headers(browser_app: Flask, ada: Api) -> None:
    user = Api(browser_app, user=ada.user).log_in()
    for path, status in (
        ("/auth/me", 200),
        ("/chat/nowhere", 404),
        (f"/chat/conversations/{ada.user_id}", 404),
    ):
        answer = user.get(path, headers={"Origin": PAGE})
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (status, PAGE)
        assert set(answer.headers["Access-Control-Expose-Headers"].split(", ")) == set(EXPOSED_HEADERS)


def test_every_documented_header_can_be_read(stranger: Api) -> None:
    paths = stranger.get("/openapi.json").get_json()["paths"]
    documented = {
        name
        for item in paths.values()
        for operation in item.values()
        if isinstance(operation, dict)
        for response in operation.get("responses", {}).values()
        for name in response.get("headers", {})
    }
    assert documented <= set(EXPOSED_HEADERS)


def test_a_preflight_without_cors_allows_nothing(ada: Api, stranger: Api) -> None:
    answer = stranger.request("OPTIONS", "/chat/messages", headers={"Origin": PAGE, **PREFLIGHT})
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
    assert stranger.request("OPTIONS", "/chat/messages").status_code == 401
    assert stranger.post("/chat/messages", {}, headers={"Origin": PAGE, **PREFLIGHT}).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/auth/me", "/nowhere", "/openapi.json", "/chat/conversations"])
def test_answers_are_no_pages(ada: Api, path: str) -> None:
    headers = ada.get(path).headers
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert (headers["Referrer-Policy"], headers["X-Content-Type-Options"]) == ("no-referrer", "nosniff")


def test_the_documentation_may_run_its_own_scripts_only(stranger: Api) -> None:
    policy = stranger.get("/docs/").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


def test_a_slash_at_the_end_makes_no_difference(ada: Api, stranger: Api) -> None:
    conversation = ada.conversation()["id"]
    for path in ("/chat/conversations", f"/chat/conversations/{conversation}", "/auth/me", "/healthz"):
        assert ada.get(path + "/").get_json() == ada.get(path).get_json()
    body = {"conversation_id": conversation, "role": "user", "content": "Hi"}
    assert ada.post("/chat/messages/", body).status_code == 201
    assert (
        stranger.post("/auth/login/", {"email": ada.user["email"], "password": PASSWORD}).status_code == 200
    )
    assert ada.delete(f"/chat/conversations/{conversation}/").status_code == 204
    assert ada.get("/chat//conversations").status_code in (308, 404)
