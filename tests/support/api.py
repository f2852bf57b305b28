"""A client of the API as tests speak to it: JSON in, JSON out, as one user."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

PASSWORD = "correct horse battery staple"

# every POST with a body, and the fields of it
POSTS = {
    "/auth/register": ("email", "password"),
    "/auth/login": ("email", "password"),
    "/auth/tokens": ("name", "expires_in_days"),
    "/chat/conversations": ("user_id", "title"),
    "/chat/messages": ("conversation_id", "role", "content", "parent_id", "tool_call_id"),
    "/chat/attachments": ("message_id", "file_type", "file_path"),
    "/chat/llm-providers": ("name", "api_endpoint", "shared", "api_format", "context_window"),
    "/chat/user-llm-configs": ("user_id", "provider_id", "api_key", "default_model", "context_window"),
    "/chat/completions": ("conversation_id", "provider_id", "model", "content", "parent_id", "stream", "parameters",
                          "on_disconnect"),
}  # fmt: skip


@dataclass
class Api:
    """Requests to an application, with the token of a user if there is one."""

    app: Flask
    token: str | None = None
    user: dict[str, Any] = field(default_factory=dict)
    refresh_token: str | None = None

    def request(self, method: str, path: str, **options: Any) -> TestResponse:
        """Send a request; `headers` are added to the token, `json` becomes the body."""
        headers = dict(options.pop("headers", None) or {})
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        client: FlaskClient = self.app.test_client()
        return client.open(path, method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.request("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        if json is not None:
            options["json"] = json
        return self.request("POST", path, **options)

    def patch(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        return self.request("PATCH", path, json=json, **options)

    def put(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        return self.request("PUT", path, json=json, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        return self.request("DELETE", path, **options)

    @property
    def user_id(self) -> str:
        return self.user["id"]

    # -- what most tests need first ---------------------------------------------------------------------

    def made(self, path: str, json: dict[str, Any], **options: Any) -> dict[str, Any]:
        """POST and expect 201; the created object."""
        response = self.post(path, json, **options)
        assert response.status_code == 201, response.get_data(as_text=True)
        return response.get_json()

    def conversation(self, title: str = "A conversation") -> dict[str, Any]:
        return self.made("/chat/conversations", {"user_id": self.user_id, "title": title})

    def message(
        self, conversation_id: str, content: Any = "Hello", role: str = "user", **fields: Any
    ) -> dict[str, Any]:
        body = {"conversation_id": conversation_id, "role": role, "content": content, **fields}
        return self.made("/chat/messages", body)

    def calling(self, conversation_id: str, *ids: str, **fields: Any) -> dict[str, Any]:
        """An assistant's message with tool calls of these ids."""
        calls = [{"id": id, "name": "get_weather", "arguments": "{}"} for id in ids]
        return self.message(conversation_id, "", role="assistant", tool_calls=calls, **fields)

    def attachment(self, message_id: str, file_path: str = "uploads/a.png") -> dict[str, Any]:
        body = {"message_id": message_id, "file_type": "image/png", "file_path": file_path}
        return self.made("/chat/attachments", body)

    def provider(self, **fields: Any) -> dict[str, Any]:
        return self.made(
            "/chat/llm-providers", {"name": "P", "api_endpoint": "https://p.example/v1", **fields}
        )

    def config(self, provider_id: str, api_key: str = "sk-0123456789abcdef") -> dict[str, Any]:
        body = {"user_id": self.user_id, "provider_id": provider_id, "api_key": api_key}
        return self.made("/chat/user-llm-configs", body)

    def completion(self, conversation_id: str, provider_id: str, **fields: Any) -> dict[str, Any]:
        """A reply that has ended; the user needs a config for the provider."""
        body = {
            "conversation_id": conversation_id,
            "provider_id": provider_id,
            "model": "m",
            "content": "Hello",
        }
        return self.made("/chat/completions", {**body, **fields})

    def log_in(self, password: str = PASSWORD) -> "Api":
        """Another login of the same user."""
        response = Api(self.app).post("/auth/login", {"email": self.user["email"], "password": password})
        assert response.status_code == 200, response.get_data(as_text=True)
        pair = response.get_json()
        return Api(self.app, pair["access_token"], pair["user"], pair["refresh_token"])


def new_email() -> str:
    """An address that nobody has."""
    return f"user-{uuid.uuid4().hex[:12]}@example.org"
