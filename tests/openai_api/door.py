"""A client of /v1 as the tests speak to it, with a provider of its own."""

import uuid
from dataclasses import dataclass
from typing import Any, Self

import orjson
from werkzeug.test import TestResponse

from tests.support.api import Api
from tests.support.provider import Answer, Received, ScriptedProvider

COMPLETIONS = "/v1/chat/completions"
HEADER = "X-Conversation-Id"


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **fields}


@dataclass(frozen=True)
class Door:
    """A user, a provider with a key, and a model of this test's own."""

    api: Api
    provider: ScriptedProvider
    slug: str
    provider_id: str
    model: str

    @classmethod
    def open(cls, api: Api, provider: ScriptedProvider, **fields: Any) -> Self:
        made = api.provider(**{"api_endpoint": provider.url, **fields})
        api.config(made["id"], f"sk-{uuid.uuid4().hex}")
        return cls(api, provider, made["slug"], made["id"], f"model-{uuid.uuid4().hex[:12]}")

    @property
    def name(self) -> str:
        return f"{self.slug}/{self.model}"

    def script(self, *answers: Answer) -> None:
        self.provider.script(*answers, model=self.model)

    @property
    def sent(self) -> list[Received]:
        return self.provider.of_model(self.model)

    def ask(self, *messages: dict[str, Any], headers: Any = None, **fields: Any) -> TestResponse:
        body = {"model": self.name, "messages": list(messages), **fields}
        return self.api.post(COMPLETIONS, body, headers=headers)

    def answered(self, *messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
        response = self.ask(*messages, **fields)
        assert response.status_code == 200, response.get_data(as_text=True)
        answer: dict[str, Any] = response.get_json()
        return answer

    def talk(self, *messages: dict[str, Any], **fields: Any) -> tuple[str, str]:
        """The conversation's id, as it stands below /chat, and the text of the reply."""
        response = self.ask(*messages, **fields)
        assert response.status_code == 200, response.get_data(as_text=True)
        named = response.headers[HEADER]
        return str(uuid.UUID(named.removeprefix("conv_"))), response.get_json()["choices"][0]["message"][
            "content"
        ]

    def chunks(self, *messages: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
        """The data of a stream that ends well."""
        frames = frames_of(self.ask(*messages, stream=True, **fields))
        assert frames.pop() == "[DONE]"
        return [orjson.loads(frame) for frame in frames]

    def conversations(self) -> list[dict[str, Any]]:
        return self.api.get("/chat/conversations").get_json()

    def said(self, conversation_id: str, branch: str = "active") -> list[tuple[str, str]]:
        path = f"/chat/conversations/{conversation_id}/messages?branch={branch}"
        return [(message["role"], message["content"]) for message in self.api.get(path).get_json()]


def frames_of(response: TestResponse) -> list[str]:
    """The data of all frames of a stream."""
    assert response.status_code == 200, response.get_data(as_text=True)
    assert response.mimetype == "text/event-stream"
    text = response.get_data(as_text=True)
    assert "id:" not in text.replace('"id:', "")
    assert "event:" not in text
    return [frame.removeprefix("data: ") for frame in text.split("\n\n") if frame.startswith("data: ")]


def refused(response: TestResponse, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """The answer is OpenAI's envelope with these."""
    text = response.get_data(as_text=True)
    assert response.status_code == status, text
    assert response.mimetype == "application/json"
    assert response.headers["X-Request-ID"]
    body = response.get_json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (body["error"]["code"], body["error"]["param"]) == (code, param), text
    return body["error"]
