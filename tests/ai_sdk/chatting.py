"""A client of the AI SDK's dialect, as `useChat` is one: it keeps messages and sends all of them each time."""

import itertools
import uuid
from dataclasses import dataclass, field
from typing import Any

import orjson
from werkzeug.test import TestResponse

from tests.support.api import Api
from tests.support.provider import Answer, Received, ScriptedProvider

PATH = "/api/chat"
HEADER = "X-Vercel-AI-UI-Message-Stream"
# chunks of the union that 5, 6 and 7 have in common
KNOWN = {
    "start", "start-step", "finish-step", "finish", "abort", "error", "text-start", "text-delta", "text-end",
    "reasoning-start", "reasoning-delta", "reasoning-end", "tool-input-available", "tool-input-error",
    "tool-output-available", "tool-output-error", "source-url", "file",
}  # fmt: skip
_numbers = itertools.count()


def user(text: str, id: str | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "id": id or f"u{next(_numbers)}",
        "role": "user",
        "parts": [{"type": "text", "text": text}],
        **fields,
    }


def chunks_of(response: TestResponse) -> list[dict[str, Any]]:
    """The chunks of a stream that ends with [DONE], or is broken off."""
    assert response.status_code == 200, response.get_data(as_text=True)
    assert response.mimetype == "text/event-stream"
    assert response.headers[HEADER] == "v1"
    frames = [frame for frame in response.get_data(as_text=True).split("\n\n") if frame]
    response.close()  # else it keeps its slot
    data = [frame.rpartition("data: ")[2] for frame in frames]
    assert data.pop() == "[DONE]"
    chunks = [orjson.loads(frame) for frame in data]
    assert {chunk["type"] for chunk in chunks} <= KNOWN
    return chunks


@dataclass
class Seen:
    """The message that a client makes of chunks, by the rules of its reducer."""

    message: dict[str, Any]
    finished: dict[str, Any] | None = None
    error: str | None = None
    aborted: bool = False

    @classmethod
    def of(cls, chunks: list[dict[str, Any]], message: dict[str, Any] | None = None) -> "Seen":
        """Without a message the client has none of it, as when it resumes."""
        message = {"id": "", "role": "assistant", "parts": [], **orjson.loads(orjson.dumps(message or {}))}
        made, parts, open_parts = cls(message), message["parts"], dict[str, Any]()
        for chunk in chunks:
            kind = chunk["type"]
            if kind == "start":
                message["id"] = chunk.get("messageId", message["id"])
            elif kind == "start-step":
                parts.append({"type": "step-start"})
            elif kind == "finish-step":
                assert not open_parts, "A part was not closed."
            elif kind in ("text-start", "reasoning-start"):
                part = {"type": kind.removesuffix("-start"), "text": "", "state": "done"}
                open_parts[chunk["id"]] = part
                parts.append(part)
            elif kind in ("text-delta", "reasoning-delta"):
                open_parts[chunk["id"]]["text"] += chunk["delta"]
            elif kind in ("text-end", "reasoning-end"):
                del open_parts[chunk["id"]]
            elif kind.startswith("tool-"):
                made._take_tool(chunk)
            elif kind in ("source-url", "file"):
                parts.append(chunk)
            elif kind == "error":
                made.error = chunk["errorText"]
            elif kind == "abort":
                made.aborted = True
            elif kind == "finish":
                made.finished = chunk
                message["metadata"] = chunk["messageMetadata"]
        return made

    def _take_tool(self, chunk: dict[str, Any]) -> None:
        assert chunk.get("dynamic") is True
        parts = self.message["parts"]
        found = [part for part in parts if part.get("toolCallId") == chunk["toolCallId"]]
        if chunk["type"].startswith("tool-input"):
            assert not found, "A call came twice."
            part = {"type": "dynamic-tool", "toolName": chunk["toolName"], "toolCallId": chunk["toolCallId"]}
            parts.append(part | {"state": "input-available", "input": chunk["input"]})
            if chunk["type"] == "tool-input-error":
                parts[-1] |= {"state": "output-error", "errorText": chunk["errorText"]}
        elif chunk["type"] == "tool-output-available":
            found[0] |= {"state": "output-available", "output": chunk["output"]}
        else:
            found[0] |= {"state": "output-error", "errorText": chunk["errorText"]}

    @property
    def text(self) -> str:
        return "".join(part["text"] for part in self.message["parts"] if part["type"] == "text")


@dataclass
class UiChat:
    """A page with one chat, of a user with a provider and a model of this test's own."""

    api: Api
    provider: ScriptedProvider
    name: str
    model: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    messages: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, api: Api, provider: ScriptedProvider) -> "UiChat":
        made = api.provider(api_endpoint=provider.url)
        api.config(made["id"], f"sk-{uuid.uuid4().hex}")
        model = f"model-{uuid.uuid4().hex[:12]}"
        return cls(api, provider, f"{made['slug']}/{model}", model)

    def another(self, api: Api | None = None, **fields: Any) -> "UiChat":
        """The page in another tab, or another chat."""
        messages = orjson.loads(orjson.dumps(self.messages))
        given = {"id": self.id, "messages": messages, **fields}
        return UiChat(api or self.api, self.provider, self.name, self.model, **given)

    def script(self, *answers: Answer) -> None:
        self.provider.script(*answers, model=self.model)

    @property
    def sent(self) -> list[Received]:
        return self.provider.of_model(self.model)

    def said_to_model(self) -> list[tuple[str, Any]]:
        return [(message["role"], message["content"]) for message in self.sent[-1].json["messages"]]

    def post(self, **body: Any) -> TestResponse:
        whole = {"id": self.id, "messages": self.messages, "trigger": "submit-message", "model": self.name}
        return self.api.post(PATH, {**whole, **body})

    def receive(self, response: TestResponse, message: dict[str, Any] | None = None) -> Seen:
        """What the page makes of an answer; with the message that it goes on with."""
        received = Seen.of(chunks_of(response), message)
        if message is not None:
            self.messages.remove(message)
        self.messages.append(received.message)
        return received

    def ask(self, text: str, **body: Any) -> Seen:
        self.messages.append(user(text))
        return self.receive(self.post(**body))

    def edit(self, message_id: str, text: str, **body: Any) -> Seen:
        """As `sendMessage({text, messageId})`: what follows is cut off."""
        index = [message["id"] for message in self.messages].index(message_id)
        self.messages[index:] = [user(text, message_id)]
        return self.receive(self.post(messageId=message_id, **body))

    def regenerate(self, message_id: str | None = None) -> Seen:
        """As `regenerate({messageId})`: without one the last message."""
        ids = [message["id"] for message in self.messages]
        index = ids.index(message_id) if message_id else len(ids) - 1
        is_answer = self.messages[index]["role"] == "assistant"
        del self.messages[index if is_answer else index + 1 :]
        named = {} if message_id is None else {"messageId": message_id}
        return self.receive(self.post(trigger="regenerate-message", **named))

    def give(self, *outputs: tuple[str, Any], **body: Any) -> Seen:
        """As `addToolOutput`, and then by itself `sendMessage()`."""
        message = self.messages[-1]
        for call_id, output in outputs:
            [part] = [part for part in message["parts"] if part.get("toolCallId") == call_id]
            is_error = isinstance(output, Exception)
            part |= {"state": "output-error", "errorText": str(output)} if is_error else {
                "state": "output-available", "output": output}  # fmt: skip
        return self.receive(self.post(messageId=message["id"], **body), message)

    def reload(self) -> dict[str, Any]:
        """The chat as a page gets it that is opened."""
        response = self.api.get(f"{PATH}/{self.id}")
        assert response.status_code == 200, response.get_data(as_text=True)
        return response.get_json()

    def resume(self) -> TestResponse:
        return self.api.get(f"{PATH}/{self.id}/stream")

    def conversation_id(self) -> str:
        [conversation] = [
            each for each in self.api.get("/chat/conversations").get_json() if each["source"] == "ui"
        ]
        return conversation["id"]

    def stored(self, branch: str = "active") -> list[tuple[str, str]]:
        path = f"/chat/conversations/{self.conversation_id()}/messages?branch={branch}"
        return [(message["role"], message["content"]) for message in self.api.get(path).get_json()]


def texts(messages: list[dict[str, Any]]) -> list[str]:
    """What is said in UIMessages."""
    return ["".join(part["text"] for part in each["parts"] if part["type"] == "text") for each in messages]


def refused(response: TestResponse, status: int, part: str) -> None:
    """The answer is a sentence with this in it."""
    text = response.get_data(as_text=True)
    assert (response.status_code, response.mimetype) == (status, "text/plain"), text
    assert part in text
    assert not text.startswith("{")
