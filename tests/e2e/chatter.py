"""A user of the service who talks to the provider, and reads replies as they are streamed."""

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.e2e.llama import MODEL, PATIENCE_S, LlamaServer
from tests.live.client import Answer, Person
from tests.support.server import GunicornServer


class Event(NamedTuple):
    """A server-sent event."""

    id: int
    name: str
    content: dict[str, Any]


class Chatter(Person):
    """A user with a provider of one protocol, a key for it, and a conversation."""

    def __init__(
        self, service: GunicornServer, llama: LlamaServer, api_format: str, *, api_key: str | None = None
    ) -> None:
        """Without `api_key` it is the one that the provider takes."""
        super().__init__(service)
        provider = {"name": "llama.cpp", "api_endpoint": llama.base_url, "api_format": api_format}
        self.provider_id = self._made("/chat/llm-providers", provider)["id"]
        config = {"user_id": self.user["id"], "provider_id": self.provider_id}
        self._made("/chat/user-llm-configs", {**config, "api_key": api_key or llama.api_key})
        self.conversation_id = self.conversation()

    def ask(self, content: str, **parameters: Any) -> Answer:
        """Have the provider reply, and wait for all of it."""
        return self.post("/chat/completions", self._question(content, parameters))

    def stream(self, content: str, *, on_disconnect: str = "continue", **parameters: Any) -> "Stream":
        """Have the provider reply, and read it while it is written."""
        question = self._question(content, parameters)
        body = {**question, "stream": True, "on_disconnect": on_disconnect}
        return Stream(self, "POST", "/chat/completions", body)

    def follow(self, completion_id: str, after: int | None = None) -> "Stream":
        """Read a reply from its beginning, or behind an event."""
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        return Stream(self, "GET", f"/chat/completions/{completion_id}/events", headers=headers)

    def reply(self) -> str:
        """The last message of the conversation, as it is stored."""
        message = self.messages(self.conversation_id)[-1]
        assert message["role"] == "assistant"
        return message["content"]

    def _question(self, content: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "conversation_id": self.conversation_id,
            "provider_id": self.provider_id,
            "model": MODEL,
            "content": content,
            "parameters": parameters,
        }


class Stream:
    """A context manager over an iterator of events, on a connection of its own, which leaving closes."""

    def __init__(
        self,
        chatter: Chatter,
        method: str,
        path: str,
        json_body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", chatter.server.port, timeout=PATIENCE_S)
        fields = {"Authorization": f"Bearer {chatter.token}", "Content-Type": "application/json"}
        body = None if json_body is None else json.dumps(json_body)
        self._connection.request(method, path, body, {**fields, **(headers or {})})
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()
        assert self._response.headers.get_content_type() == "text/event-stream"
        self._events = _events_in(self._response)

    def __enter__(self) -> Iterator[Event]:
        return self._events

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()


def _events_in(response: http.client.HTTPResponse) -> Iterator[Event]:
    """Each event as soon as it is there."""
    fields: dict[str, str] = {}
    for line in iter(response.readline, b""):
        text = line.decode().removesuffix("\n")
        if not text and "data" in fields:
            content = json.loads(fields["data"])
            assert content.pop("type") == fields["event"]
            yield Event(int(fields["id"]), fields["event"], content)
            fields = {}
        elif text and not text.startswith(":"):  # else a comment: it keeps the connection open
            name, _, value = text.partition(": ")
            fields[name] = value


def read_deltas(stream: Iterator[Event], count: int) -> list[Event]:
    """The next events, up to so many deltas."""
    seen: list[Event] = []
    while sum(event.name == "completion.delta" for event in seen) < count:
        seen.append(next(stream))
    return seen


def text_of(events: list[Event]) -> str:
    """What the deltas add up to."""
    return "".join(event.content["delta"] for event in events if event.name == "completion.delta")
