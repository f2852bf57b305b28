"""Short ways to let an adapter read a reply, without a network."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from chat_api.egress.errors import EgressError
from chat_api.llm import anthropic, openai
from chat_api.llm.events import (
    Event,
    FileData,
    Finish,
    Notice,
    ReasoningDelta,
    Source,
    TextDelta,
    TextWasReasoning,
    ToolCall,
    Usage,
)
from chat_api.llm.sse import Frame

PROTOCOLS = {"openai": openai, "anthropic": anthropic}
REPLY_BYTES = 1024 * 1024


@dataclass
class Read:
    """What was made of a reply."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)  # name, arguments
    ids: list[str] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    usage: tuple[int | None, int | None] | None = None
    details: tuple[int | None, int | None] | None = None  # tokens from a cache, tokens of thoughts
    finish: str | None = None
    notices: list[str] = field(default_factory=list)
    files: dict[int, tuple[str, bytes]] = field(default_factory=dict)  # kind and content, by number
    whole: set[int] = field(default_factory=set)  # numbers of files that have ended
    error: str | None = None

    def take(self, event: Event) -> None:
        """Take an event as a completion does."""
        if isinstance(event, TextDelta):
            self.text += event.text
        elif isinstance(event, ReasoningDelta):
            self.reasoning += event.text
        elif isinstance(event, TextWasReasoning):
            self.reasoning, self.text = self.reasoning + self.text, ""
        elif isinstance(event, ToolCall):
            self.calls.append((event.name, event.arguments))
            self.ids.append(event.id)
        elif isinstance(event, Source):
            self.sources[event.url] = event
        elif isinstance(event, Usage):
            self.usage = (event.prompt_tokens, event.completion_tokens)
            self.details = (event.cached_tokens, event.reasoning_tokens)
        elif isinstance(event, Notice):
            self.notices.append(event.text)
        elif isinstance(event, FileData):
            known = self.files.get(event.number, (event.kind, b""))[1]
            self.files[event.number] = event.kind, known + b"".join(event.content)
            self.whole |= {event.number} if event.is_last else set()
        elif isinstance(event, Finish):
            self.finish = event.reason


def read(
    chunks: Iterable[Any], api_format: str = "openai", *, apart: bool = False, done: bool = True
) -> Read:
    """Read a stream of these JSON objects, at once, or with a read for each."""
    frames = [Frame("", json.dumps(chunk)) for chunk in chunks]
    if done and api_format == "openai":
        frames.append(Frame("", "[DONE]"))
    reads = [[frame] for frame in frames] if apart else [frames]
    return _read(PROTOCOLS[api_format].parse_stream(reads, secrets="key", reply_bytes=REPLY_BYTES))


def read_whole(answer: Any, api_format: str = "openai") -> Read:
    """Read a reply that is one JSON value."""
    protocol = PROTOCOLS[api_format]
    return _read(
        protocol.parse_json_reply(value, secrets="key", reply_bytes=REPLY_BYTES) for value in (answer,)
    )


def _read(reads: Iterator[list[Event]]) -> Read:
    result = Read()
    try:
        for events in reads:
            for event in events:
                result.take(event)
    except EgressError as error:
        result.error = error.detail
    return result


# -- chat completions ---------------------------------------------------------------------------------------


def chunk(delta: Any = None, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk with one choice; further fields are the choice's."""
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish, **fields}
    return {"id": "c1", "object": "chat.completion.chunk", "choices": [choice]}


def answer(message: Any, finish: str = "stop", **fields: Any) -> dict[str, Any]:
    """A whole reply; further fields are its own."""
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion", "choices": [choice], **fields}


def texts(*texts: str) -> list[dict[str, Any]]:
    """A chunk for each text, and the end."""
    return [*(chunk({"content": text}) for text in texts), chunk(finish="stop")]


def call(name: str | None = None, arguments: Any = None, **fields: Any) -> dict[str, Any]:
    """A tool call or a part of one."""
    function = {"name": name, "arguments": arguments}
    known = {key: value for key, value in function.items() if value is not None}
    return {"type": "function", "function": known, **fields}


# -- messages -----------------------------------------------------------------------------------------------


def block(index: int, kind: str, *deltas: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """The events of one block of content."""
    return [
        {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text_block(index: int, *texts: str) -> list[dict[str, Any]]:
    """The events of a block of text."""
    return block(index, "text", *({"type": "text_delta", "text": text} for text in texts), text="")


def message(
    *blocks: list[dict[str, Any]], usage: Any = None, reason: str = "end_turn", **stop: Any
) -> list[dict[str, Any]]:
    """All events of a message; `stop` is more of its last delta."""
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": reason, **stop},
        "usage": usage or {"output_tokens": 5},
    }
    return [start, *(event for events in blocks for event in events), end, {"type": "message_stop"}]
