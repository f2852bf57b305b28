"""One user's conversation with a provider that the test scripts."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.database.session import db
from tests.support.api import Api
from tests.support.provider import Answer, Received, ScriptedProvider

ENDS = ("completion.completed", "completion.incomplete", "completion.failed", "completion.cancelled")


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    id: int
    name: str
    content: Any

    @property
    def is_end(self) -> bool:
        return self.name in ENDS


class Stream:
    """The events of an answer, read one by one while the reply goes on."""

    def __init__(self, response: TestResponse) -> None:
        assert response.status_code == 200, response.get_data(as_text=True)
        self.headers = response.headers
        self.seen: list[Event] = []
        self._response = response
        self._events = self._read(response.iter_encoded())

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def next(self) -> Event:
        """The next event."""
        return next(self._events)

    def rest(self) -> list[Event]:
        """All that come, to the end of the stream; with those that were read before, as `seen`."""
        list(self._events)
        self.close()
        return self.seen

    def until(self, text: str) -> "Stream":
        """Read on until so much of the reply has come."""
        while self.text != text:
            assert text.startswith(self.text), self.text
            self.next()
        return self

    def close(self) -> None:
        """Leave, as a client does that closes its connection."""
        self._response.close()

    @property
    def id(self) -> str:
        """The completion's."""
        first = self.seen[0] if self.seen else self.next()
        return first.content["completion"]["id"]

    @property
    def text(self) -> str:
        """The text that has come."""
        return joined(self.seen)

    @property
    def end(self) -> Event:
        """The last event, which there must be."""
        assert self.seen[-1].is_end, self.seen
        assert sum(event.is_end for event in self.seen) == 1
        return self.seen[-1]

    def _read(self, parts: Iterator[bytes]) -> Iterator[Event]:
        rest = b""
        for part in parts:
            *frames, rest = (rest + part).split(b"\n\n")
            for frame in frames:
                event = _parsed(frame.decode())
                self.seen.append(event)
                yield event
        assert _without_comments(rest.decode()) == [], rest


def _parsed(frame: str) -> Event:
    """An event of exactly one id, one name and one line of JSON; comments may precede it."""
    lines = _without_comments(frame)
    assert [line.split(": ")[0] for line in lines] == ["id", "event", "data"], frame
    id_, name, content = (line.split(": ", 1)[1] for line in lines)
    fields = json.loads(content)
    assert fields.pop("type") == name, frame
    return Event(int(id_), name, fields)


def _without_comments(frame: str) -> list[str]:
    return [line for line in frame.split("\n") if line and not line.startswith(":")]


def joined(events: list[Event], name: str = "completion.delta") -> str:
    """The text of events."""
    return "".join(event.content["delta"] for event in events if event.name == name)


@dataclass(frozen=True)
class Chat:
    """A conversation, a provider with a key, and a model of this test's own."""

    api: Api
    provider: ScriptedProvider
    conversation_id: str
    provider_id: str
    key: str
    model: str

    @classmethod
    def begin(cls, api: Api, provider: ScriptedProvider, **fields: Any) -> "Chat":
        """Make all that is needed. `fields` are the provider's."""
        key = f"sk-{uuid.uuid4().hex}"
        made = api.provider(**{"api_endpoint": provider.url, **fields})
        api.config(made["id"], key)
        return cls(api, provider, api.conversation()["id"], made["id"], key, f"model-{uuid.uuid4().hex[:12]}")

    def on(self, app: Flask) -> "Chat":
        """The same at another application: what another worker sees."""
        return replace(self, api=replace(self.api, app=app))

    def elsewhere(self) -> "Chat":
        """Another conversation with the same provider and model."""
        return replace(self, conversation_id=self.api.conversation()["id"])

    def script(self, *answers: Answer) -> None:
        """Answer the next requests for this model with these; the last one is for all that follow."""
        self.provider.script(*answers, model=self.model)

    def asked(self, **fields: Any) -> dict[str, Any]:
        """The body that asks for a reply."""
        body = {
            "conversation_id": self.conversation_id,
            "provider_id": self.provider_id,
            "model": self.model,
            "content": "Hello",
            **fields,
        }
        return {name: value for name, value in body.items() if value is not None}

    def ask(self, *, query: str = "", headers: Any = None, **fields: Any) -> TestResponse:
        """Ask for a reply, not streamed where `fields` don't say so; a field of None is left out."""
        body = json.dumps(self.asked(**fields))  # by the standard library: it also writes what is refused
        headers = {"Content-Type": "application/json", **(headers or {})}
        return self.api.post(f"/chat/completions{query}", data=body, headers=headers)

    def reply(self, **fields: Any) -> dict[str, Any]:
        """Ask for a reply and expect one."""
        return self.api.made("/chat/completions", self.asked(**fields))

    def stream(self, headers: dict[str, str] | None = None, **fields: Any) -> Stream:
        """Ask for a streamed reply."""
        return Stream(self.ask(stream=True, headers=headers, **fields))

    def events(self, completion_id: str, *, query: str = "", last: str | int | None = None) -> Stream:
        """Follow a reply; `last` is the Last-Event-ID."""
        return Stream(self.follow(completion_id, query=query, last=last))

    def follow(self, completion_id: str, *, query: str = "", last: str | int | None = None) -> TestResponse:
        """The answer to a request for a reply's events."""
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        return self.api.get(f"/chat/completions/{completion_id}/events{query}", headers=headers)

    def get(self, completion_id: str) -> dict[str, Any]:
        """The completion."""
        response = self.api.get(f"/chat/completions/{completion_id}")
        assert response.status_code == 200, response.get_data(as_text=True)
        return response.get_json()

    def cancel(self, completion_id: str) -> TestResponse:
        """Cancel a reply."""
        return self.api.post(f"/chat/completions/{completion_id}/cancel")

    def ended(self, completion_id: str, timeout_s: float = 10) -> dict[str, Any]:
        """The completion when it has ended."""
        wait_for(lambda: self.get(completion_id)["status"] != "in_progress", timeout_s)
        return self.get(completion_id)

    @property
    def completions(self) -> list[dict[str, Any]]:
        """The conversation's, oldest first."""
        return self.api.get(f"/chat/conversations/{self.conversation_id}/completions").get_json()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation's, oldest first."""
        return self.api.get(f"/chat/conversations/{self.conversation_id}/messages").get_json()

    @property
    def said(self) -> list[tuple[str, str, str]]:
        """Role, content and status of each message."""
        return [(message["role"], message["content"], message["status"]) for message in self.messages]

    @property
    def sent(self) -> list[Received]:
        """What the provider was asked, for this model."""
        return self.provider.of_model(self.model)

    def request(self, count: int = 1) -> Received:
        """Wait until the provider was asked so often, and return the last of it."""
        return self.provider.wait_for_request(self.model, count)


def wait_for(is_true: Callable[[], object], timeout_s: float = 10) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "It did not come to that in time."
        time.sleep(0.01)


def run_sql(app: Flask, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run SQL past the service, in a transaction of its own; its rows, if it has some."""
    with app.app_context(), db.engine.begin() as connection:
        result = connection.execute(sa.text(statement), parameters)
        return [tuple(row) for row in result] if result.returns_rows else []


def pieces_of(app: Flask, completion_id: str) -> str:
    """What is durable of a reply in progress: its chunks' texts."""
    rows = run_sql(
        app,
        "SELECT chunks FROM completion_pieces WHERE completion_id = :id ORDER BY position",
        id=completion_id,
    )
    return "".join(text for (chunks,) in rows for _, text in json.loads(chunks))


def wait_until_durable(app: Flask, completion_id: str, text: str) -> None:
    """Wait until so much of a reply in progress is in the database."""
    wait_for(lambda: pieces_of(app, completion_id) == text)
