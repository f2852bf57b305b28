"""A client of /v1/responses as the tests speak to it."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import orjson
from flask import Flask
from werkzeug.test import TestResponse

from tests.openai_api.door import Door
from tests.support.provider import STALL, openai_stream

RESPONSES = "/v1/responses"
# of every response, whatever became of it
FIELDS = {
    "id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id",
    "instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p",
    "presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage",
    "max_output_tokens", "max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier",
    "prompt_cache_key", "prompt_cache_retention", "conversation", "user",
}  # fmt: skip


@dataclass(frozen=True)
class Asking(Door):
    """A door whose client speaks of responses."""

    def create(self, sent: Any = "Hi", headers: Any = None, **fields: Any) -> TestResponse:
        body = {"model": self.name, "input": sent, **fields}
        return self.api.post(
            RESPONSES, {name: value for name, value in body.items() if value is not ...}, headers=headers
        )

    def response(self, sent: Any = "Hi", **fields: Any) -> dict[str, Any]:
        """A response that is not streamed, which has all fields."""
        return self.valid(self.create(sent, **fields))

    def valid(self, answer: TestResponse) -> dict[str, Any]:
        assert answer.status_code == 200, answer.get_data(as_text=True)
        found: dict[str, Any] = answer.get_json()
        assert set(found) == FIELDS
        return found

    def stalled(self) -> str:
        """The name of a model of this provider that says "Hel", and no more."""
        model = f"stalled-{uuid.uuid4().hex[:12]}"
        self.provider.script(openai_stream("Hel", STALL), model=model)
        return f"{self.slug}/{model}"

    def on(self, app: Flask) -> Self:
        """The same at another application: what another worker sees."""
        return replace(self, api=replace(self.api, app=app))

    def get(self, response_id: str) -> dict[str, Any]:
        return self.valid(self.api.get(f"{RESPONSES}/{response_id}"))

    def stream(self, sent: Any = "Hi", **fields: Any) -> list[dict[str, Any]]:
        """The events of a new response, to the end."""
        return events_of(self.create(sent, stream=True, **fields))

    def resumed(self, response_id: str, after: int | None = None) -> list[dict[str, Any]]:
        """The events of a response that is there, after a number."""
        query = "" if after is None else f"&starting_after={after}"
        return events_of(self.api.get(f"{RESPONSES}/{response_id}?stream=true{query}"))


def events_of(answer: TestResponse) -> list[dict[str, Any]]:
    """The events of a stream that ends with [DONE], each with a greater number than the one before."""
    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert answer.mimetype == "text/event-stream"
    with answer:
        frames = answer.get_data(as_text=True).split("\n\n")
    assert frames.pop() == ""
    assert frames.pop() == "data: [DONE]"
    events = list(_read(frames))
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(set(numbers))
    return events


def _read(frames: list[str]) -> Iterator[dict[str, Any]]:
    for frame in frames:
        if frame.startswith(":"):
            continue
        name, data = frame.split("\n")
        event = orjson.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        yield event


def text_of(response: dict[str, Any]) -> str:
    """As the SDKs sum it up."""
    return "".join(
        part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]
    )


def conversation_id_of(answer: TestResponse) -> str:
    """As it stands below /chat."""
    return str(uuid.UUID(answer.headers["X-Conversation-Id"].removeprefix("conv_")))


def asked(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}
