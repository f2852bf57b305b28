"""A user of the service and what they own, made over HTTP like any client would."""

import http.client
import json
import secrets
import time
from typing import Any

from bench.servers import HOST


class RequestRefused(Exception):
    """The service did not answer a request of the preparation with 2xx."""


class Account:
    """One registered user with a token that stays valid, and the few calls that prepare a measurement."""

    def __init__(self, port: int, credentials: dict[str, str] | None = None) -> None:
        """Register, unless these are the credentials of an account that there is."""
        self._port = port
        self.credentials = credentials or {
            "email": f"bench-{secrets.token_hex(4)}@example.com",
            "password": secrets.token_urlsafe(24),
        }
        self._renew_at = 0.0
        if credentials is None:
            self.call("POST", "/auth/register", self.credentials, token=None)
        self.user_id: str = self.get("/auth/me")[0]["id"]

    @property
    def token(self) -> str:
        """An access token with at least half of its life ahead."""
        if time.monotonic() >= self._renew_at:
            login, _ = self.call("POST", "/auth/login", self.credentials, token=None)
            self._token: str = login["access_token"]
            self._renew_at = time.monotonic() + login["expires_in"] / 2
        return self._token

    def create_conversation(self, title: str) -> str:
        """Make a conversation; its id."""
        body = {"user_id": self.user_id, "title": title}
        conversation_id: str = self.call("POST", "/chat/conversations", body, self.token)[0]["id"]
        return conversation_id

    def append_message(self, conversation_id: str, content: str) -> dict[str, Any]:
        """Append a user's message; the message."""
        body = {"conversation_id": conversation_id, "role": "user", "content": content}
        message: dict[str, Any] = self.call("POST", "/chat/messages", body, self.token)[0]
        return message

    def get(self, path: str) -> tuple[Any, dict[str, str]]:
        """Body and headers (names in lower case) of a GET."""
        return self.call("GET", path, None, self.token)

    def call(self, method: str, path: str, body: Any, token: str | None) -> tuple[Any, dict[str, str]]:
        """Body and headers of any request; RequestRefused unless the answer is 2xx."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection(HOST, self._port, timeout=30)  # calls may be minutes apart
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise RequestRefused(f"{method} {path}: {answer.status} {text[:500]}")
        return json.loads(text), {name.lower(): value for name, value in answer.getheaders()}
