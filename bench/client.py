"""A user of the service, whose requests are made over HTTP like any client's."""

import http.client
import json
import secrets
import time
from typing import Any

from bench.servers import HOST


class RequestRefused(Exception):
    """The service did not answer with 2xx."""


class Account:
    """One registered user with a token that stays valid."""

    def __init__(self, port: int, credentials: dict[str, str] | None = None) -> None:
        """Register, or log in with the credentials of an existing account."""
        self.port = port
        self.credentials = credentials or {
            "email": f"bench-{secrets.token_hex(4)}@example.com",
            "password": secrets.token_urlsafe(24),
        }
        self._renew_at = 0.0
        if credentials is None:
            self._call("POST", "/auth/register", self.credentials)
        self.user_id: str = self.call("GET", "/auth/me")["id"]

    @property
    def token(self) -> str:
        """An access token with at least half of its life ahead."""
        if time.monotonic() >= self._renew_at:
            login = self._call("POST", "/auth/login", self.credentials)
            self._token: str = login["access_token"]
            self._renew_at = time.monotonic() + login["expires_in"] / 2
        return self._token

    def create_conversation(self, title: str) -> str:
        """Create a conversation; its id."""
        created = self.call("POST", "/chat/conversations", {"user_id": self.user_id, "title": title})
        return str(created["id"])

    def append_message(self, conversation_id: str, content: str) -> dict[str, Any]:
        """Append a user's message; the message."""
        body = {"conversation_id": conversation_id, "role": "user", "content": content}
        message: dict[str, Any] = self.call("POST", "/chat/messages", body)
        return message

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The answer's body. Raises RequestRefused unless it is 2xx."""
        return self._call(method, path, body, self.token)

    def _call(self, method: str, path: str, body: object, token: str = "") -> Any:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)  # calls may be minutes apart
        try:
            return _exchange(connection, method, path, body, token)[1]
        finally:
            connection.close()


class TimedClient:
    """Sends requests of an account over one connection that stays open, and takes their time."""

    def __init__(self, account: Account, port: int) -> None:
        self.account = account
        self._connection = http.client.HTTPConnection(HOST, port, timeout=60)
        self._token = account.token

    def call(self, method: str, path: str, body: object = None) -> tuple[float, Any]:
        """Milliseconds, and the answer's body. Raises RequestRefused unless it is 2xx."""
        return _exchange(self._connection, method, path, body, self._token)


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: object, token: str
) -> tuple[float, Any]:
    """One request on a connection: milliseconds, and the answer's body."""
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    text = None if body is None else json.dumps(body)
    started = time.perf_counter()
    connection.request(method, path, text, headers)
    answer = connection.getresponse()
    content = answer.read()
    took_ms = (time.perf_counter() - started) * 1000
    if not 200 <= answer.status < 300:
        raise RequestRefused(f"{method} {path}: {answer.status} {content.decode()[:500]}")
    return took_ms, json.loads(content) if content else None
