"""The log of a running service: one line for each request, and nothing in it that was meant for nobody's eyes."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.client import SETTINGS, Person, send_raw, wait_until
from tests.live.uploads import send_file
from tests.support.provider import ScriptedProvider, error_answer
from tests.support.server import GunicornServer

FIELDS = {
    "time", "level", "logger", "message", "request_id", "method", "route", "status", "duration_ms", "client",
    "user_id",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[GunicornServer]:
    """A server of its own, so that its log is these tests' alone."""
    with GunicornServer(
        SETTINGS | {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "2"}, migrate=False
    ) as running:
        yield running


def lines_of(server: GunicornServer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.splitlines()]


def test_a_request_leaves_one_line_of_json_with_the_promised_fields(server: GunicornServer) -> None:
    person = Person(server)
    conversation_id = person.conversation()
    ids = [f"line-{uuid.uuid4().hex}" for _ in range(4)]
    requests = [
        ("GET", f"/chat/conversations/{conversation_id}", person.token),
        ("GET", f"/chat/conversations/{conversation_id}", None),
        ("POST", "/chat/messages", person.token),
        ("GET", "/nowhere", None),
    ]
    for (method, path, token), request_id in zip(requests, ids, strict=True):
        server.request(method, path, token=token, headers={"X-Request-ID": request_id})

    found = wait_until(
        lambda: (
            len(lines := [line for line in lines_of(server) if line.get("request_id") in ids]) >= 4 and lines
        )
    )
    assert [line["request_id"] for line in found] == ids
    for line in found:
        assert set(line) == FIELDS
        assert line["time"].endswith("Z")
        assert line["duration_ms"] > 0
    promised = [(line["method"], line["route"], line["status"], line["user_id"]) for line in found]
    route = "/chat/conversations/{conversation_id}"
    assert promised == [
        ("GET", route, 200, person.user["id"]),
        ("GET", route, 401, None),
        ("POST", "/chat/messages", 400, person.user["id"]),
        ("GET", None, 404, None),
    ]


def test_a_request_on_behalf_of_a_user_names_who_sent_it(server: GunicornServer) -> None:
    sender, owner = Person(server), Person(server)
    server.run_flask("users", "set-role", sender.email, "service")
    sender.log_in()
    request_id = f"act-{uuid.uuid4().hex}"
    headers = {"X-Act-As": owner.user["id"], "X-Request-ID": request_id}
    server.request("GET", f"/chat/conversations/{uuid.uuid4()}", token=sender.token, headers=headers)
    line = wait_until(
        lambda: next((line for line in lines_of(server) if line.get("request_id") == request_id), None)
    )
    assert (line["user_id"], line["actor_id"]) == (owner.user["id"], sender.user["id"])


def test_no_password_token_key_or_body_is_ever_in_the_log(server: GunicornServer) -> None:
    def secret(kind: str) -> str:
        return f"{kind}-{uuid.uuid4().hex}"

    password, wrong_password, new_password = secret("password"), secret("wrong"), secret("new")
    title, content, idempotency_key = secret("title"), secret("content"), secret("idempotency")
    api_key, file_path, query = secret("sk"), secret("path"), secret("query")
    person = Person(server, password=password)
    conversation_id = person.conversation()
    assert person.post("/chat/conversations", {"user_id": person.user["id"], "title": title}).status == 201
    message = person.say(conversation_id, content, key=idempotency_key).body
    assert person.say(conversation_id, content, key=idempotency_key).headers["Idempotency-Replayed"] == "true"
    attachment = {"message_id": message["id"], "file_type": "image/png", "file_path": file_path}
    assert person.post("/chat/attachments", attachment).status == 201
    provider = person.post("/chat/llm-providers", {"name": "P", "api_endpoint": "https://p.example/v1"}).body
    config = {"user_id": person.user["id"], "provider_id": provider["id"], "api_key": api_key}
    assert [person.post("/chat/user-llm-configs", config).status for _ in range(2)] == [201, 409]
    upload = send_file(person, b"an upload").body
    minted = person.post(f"/chat/attachments/{upload['id']}/link", {"single_use": True}).body["url"]
    path, _, link = minted.partition("?link=")
    for url, status in ((minted, 200), (minted, 401), (f"{minted}x", 401), (f"{path}?x=1&link={link}", 400)):
        assert server.request("GET", url)[0] == status
    assert server.request("GET", f"/nowhere?link={link}")[0] == 404
    personal = person.post("/auth/tokens", {"name": "ci", "expires_in_days": 1}).body["token"]
    assert server.request("GET", "/auth/me", token=personal)[0] == 200
    # all of it again in requests that are refused, in every way that there is
    for path, body in (
        ("/auth/register", {"email": person.email, "password": password}),
        ("/auth/login", {"email": person.email, "password": wrong_password}),
        ("/auth/login", {"email": person.email, "password": [wrong_password]}),
        ("/auth/login", {wrong_password: 1}),
        ("/chat/messages", {"conversation_id": content, "role": content, "content": content + "\x00"}),
        ("/chat/user-llm-configs", {**config, "provider_id": str(uuid.uuid4())}),
        ("/chat/user-llm-configs", {**config, "api_key": api_key + "\ud800"}),
    ):
        assert 400 <= person.post(path, body).status < 500
    change = {"current_password": wrong_password, "password": new_password}
    assert server.request("PATCH", "/auth/me", change, token=person.token)[0] == 403
    assert (
        server.request("PATCH", "/auth/me", change | {"current_password": password}, token=person.token)[0]
        == 200
    )
    assert person.get(f"/chat/conversations/{conversation_id}/messages?after={query}").status == 400
    assert person.get(f"/nowhere/{query}?token={query}").status == 404
    refused = [
        f"POST /auth/login HTTP/1.1\r\nHost: x\r\nAuthorization Bearer {person.token}\r\n\r\n",
        f"{wrong_password}\r\n\r\n",
        f"POST /auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{content}\r\n",
        f"GET /?{query} HTTP/7 {wrong_password}\r\n\r\n",
    ]
    for request in refused:
        assert send_raw(server.port, request.encode()).status in (400, 415)
    assert server.request("GET", "/auth/me", token=person.token + "x")[0] == 401
    refresh_token = person.refresh_token
    assert server.request("POST", "/auth/refresh", token=refresh_token)[0] == 200
    assert server.request("POST", "/auth/refresh", token=refresh_token + "x")[0] == 401
    request_id = f"last-{uuid.uuid4().hex}"
    server.request("GET", "/healthz", headers={"X-Request-ID": request_id})
    wait_until(lambda: request_id in server.log)

    log = server.log
    secrets = [password, wrong_password, new_password, title, content, idempotency_key, api_key, file_path, query,
               person.email, person.token, refresh_token, personal, max(personal.split("_"), key=len),
               link, link[:40]]  # fmt: skip
    secrets += [token.split(".")[2] for token in (person.token, refresh_token)]
    assert [text for text in secrets if text in log] == []
    assert all(json.loads(line)["level"] in ("info", "warning") for line in log.splitlines())


def test_a_reply_leaves_a_line_when_it_ends(server: GunicornServer) -> None:
    person = Person(server)
    with ScriptedProvider() as provider:
        made = person.post("/chat/llm-providers", {"name": "P", "api_endpoint": provider.url}).body
        config = {"provider_id": made["id"], "api_key": "sk-0123456789abcdef"}
        assert person.post("/chat/user-llm-configs", config).status == 201
        asked = {"conversation_id": person.conversation(), "provider_id": made["id"], "content": "Hello"}
        model, refused = f"model-{uuid.uuid4().hex[:12]}", f"model-{uuid.uuid4().hex[:12]}"
        provider.script(error_answer(404, "no such model"), model=refused)
        completion = person.post("/chat/completions", {**asked, "model": model}).body
        assert person.post("/chat/completions", {**asked, "model": refused}).status >= 400
    lines = wait_until(
        lambda: (
            len(found := [line for line in lines_of(server) if line.get("model") in (model, refused)]) == 2
            and found
        )
    )
    good, bad = lines
    assert good["message"] == "reply"
    assert (good["completion_id"], good["provider_id"]) == (completion["id"], made["id"])
    assert (good["status"], good["code"]) == ("completed", None)
    assert (good["prompt_tokens"], good["completion_tokens"]) == (16, 3)
    assert 0 < good["first_token_ms"] <= good["duration_ms"]
    assert (bad["status"], bad["code"], bad["first_token_ms"]) == ("failed", "provider_model_not_found", None)
