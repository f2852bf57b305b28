"""What responses have in common."""

import re

import pytest
from flask import Flask
from werkzeug.test import EnvironBuilder

from chat_api.web.application import Response as WholeResponse
from tests.support.api import Api


def test_times_are_in_utc_with_a_z(user: Api, own_ids: dict[str, str]) -> None:
    user.attachment(own_ids["message"])
    found = [
        user.get("/auth/me").get_json(),
        user.get(f"/chat/conversations/{own_ids['conversation']}").get_json(),
        user.get(f"/chat/llm-providers/{own_ids['provider']}").get_json(),
        user.config(user.provider()["id"]),
        user.made("/auth/tokens", {"name": "script"}),
        user.get(f"/chat/conversations/{own_ids['conversation']}/messages").get_json()[0],
        user.get(f"/chat/messages/{own_ids['message']}/attachments").get_json()[0],
        user.get(f"/chat/completions/{own_ids['completion']}").get_json(),
        user.get(f"/chat/completions/{own_ids['completion']}").get_json()["message"],
    ]
    times = [value for one in found for name, value in one.items() if name.endswith("_at")]
    assert len(times) >= 13
    for time in times:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time), time


@pytest.mark.parametrize("host", ["", "a b", "x.example:port", "é", "a/b", "evil.example", "[::1"])
def test_strange_host_does_no_harm(stranger: Api, host: str) -> None:
    response = stranger.get("/healthz", headers={"Host": host})
    assert response.status_code in (200, 400)
    assert response.mimetype in ("application/json", "application/problem+json")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_whole_response_is_what_flask_would_make(app: Flask, method: str) -> None:
    body = b'{"status":"ok"}'
    whole = WholeResponse.whole(body, ("ETag", '"tag"'), ("Content-Type", "application/json"))
    usual = WholeResponse(body, 200, {"ETag": '"tag"'}, content_type="application/json")
    environ = EnvironBuilder(method=method).get_environ()
    sent = [[*response.get_wsgi_response(environ)] for response in (whole, usual)]
    assert [[b"".join(pieces), *rest] for pieces, *rest in sent[:1]] == [
        [b"".join(pieces), *rest] for pieces, *rest in sent[1:]
    ]
    assert whole.get_json() == {"status": "ok"}
    whole.headers["Link"] = "added"
    whole.status_code = 202
    closed: list[str] = []
    whole.call_on_close(lambda: closed.append("closed"))
    whole.close()
    assert (whole.status, whole.headers["Link"], closed) == ("202 ACCEPTED", "added", ["closed"])


def test_the_common_headers_are_added_to_every_kind_of_response_once(user: Api) -> None:
    for path in ("/healthz", "/auth/me", "/chat/conversations", "/chat/unknown", "/openapi.json"):
        headers = user.get(path).headers
        for name in ("Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options", "Cache-Control"):
            assert len(headers.getlist(name)) == 1, (path, name)
        assert len(headers.getlist("X-Request-ID")) == 1
