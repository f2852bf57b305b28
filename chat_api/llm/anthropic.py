"""Anthropic's Messages API, version 2023-06-01."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import stream_parser
from .error_responses import reported
from .events import Event, Usage
from .request import ChatMessage, ChatRequest, Endpoint, ImagePart, TextPart
from .sse import Frame
from .stream_parser import add_reasoning, add_text, written_arguments
from .untrusted_json import as_count, as_dict, as_list, as_text, can_be_sent, loads

VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 4096  # the protocol wants a bound

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
TOOL_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def completions_path(endpoint_path: str) -> str:
    """What is put behind the endpoint's own path, which may name the version already."""
    return _versioned(endpoint_path, "/messages")


def models_path(endpoint_path: str) -> str:
    """What is put behind the endpoint's own path, which may name the version already."""
    return _versioned(endpoint_path, "/models")


def _versioned(endpoint_path: str, path: str) -> str:
    return path if endpoint_path.rstrip("/").endswith("/v1") else f"/v1{path}"


def headers(endpoint: Endpoint, key: str) -> dict[str, str]:
    """The headers that this protocol needs, with a key; a server without accounts needs none."""
    return {"anthropic-version": VERSION, **({"x-api-key": key} if endpoint.api_key else {})}


def body(request: ChatRequest) -> dict[str, Any]:
    """The request's body: system texts apart, messages of one role merged, parameters in this protocol's names."""
    system = [_text_of(message) for message in request.messages if message.role in ("system", "developer")]
    sent: dict[str, Any] = {
        "model": request.model,
        "messages": _messages(request.messages),
        "stream": True,
        **_parameters(request.parameters),
    }
    if text := "\n\n".join(part for part in system if part):
        sent["system"] = text
    return sent


def corrected(sent: Mapping[str, Any], complaint: str) -> dict[str, Any] | None:
    """Nothing is left out on a server's complaint: there is one server, and it knows all that is sent."""
    return None


def events(reads: Iterable[list[Frame]], *, key: str, answer_bytes: int) -> Iterator[list[Event]]:
    """The typed events of a streamed reply."""
    return stream_parser.events(StreamParser(key, answer_bytes), reads)


def whole(answer: Any, *, key: str, answer_bytes: int) -> list[Event]:
    """The typed events of a reply that came as one JSON object, though a stream was asked for."""
    return stream_parser.whole(StreamParser(key, answer_bytes), answer)


class StreamParser(stream_parser.StreamParser):
    """A reply in content blocks."""

    def take(self, frame: Frame, found: list[Event]) -> None:
        """Append the events that a frame brings."""
        event = loads(frame.data)
        if not self.understood(isinstance(event, dict) and isinstance(event.get("type"), str)):
            if frame.event == "error" or as_dict(event).get("error"):
                raise reported(as_dict(event).get("error") or frame.data, self.key)
            return
        kind = event["type"]
        if kind == "content_block_delta":
            self._take_delta(event.get("index"), as_dict(event.get("delta")), found)
        elif kind == "content_block_start":
            self._take_block(event.get("index"), as_dict(event.get("content_block")), found)
        elif kind == "message_start":
            usage = as_dict(as_dict(event.get("message")).get("usage"))
            # its output_tokens are those of the beginning: of a reply that is cut off they would stay the last word
            self._take_usage({**usage, "output_tokens": None})
            if self.usage:
                found.append(self.usage)
        elif kind == "message_delta":
            self._take_stop(as_dict(event.get("delta")).get("stop_reason"))
            self._take_usage(as_dict(event.get("usage")))
        elif kind == "message_stop":
            self.is_done = True
        elif kind == "error":
            raise reported(event.get("error"), self.key)

    def take_whole(self, answer: Any, found: list[Event]) -> None:
        """Append the events of a whole message."""
        fields = as_dict(answer)
        if error := fields.get("error"):
            raise reported(error, self.key)
        if not self.understood(isinstance(fields.get("content"), list)):
            return
        for index, block in enumerate(fields["content"]):
            self._take_block(index, as_dict(block), found)
        self._take_stop(fields.get("stop_reason"))
        self._take_usage(as_dict(fields.get("usage")))

    def _take_block(self, index: object, block: dict[str, Any], found: list[Event]) -> None:
        """The beginning of a block in a stream, or the whole block."""
        kind = block.get("type")
        if kind == "text":
            add_text(found, as_text(block.get("text")))
        elif kind == "thinking":
            add_reasoning(found, as_text(block.get("thinking")))
        elif kind == "tool_use":
            call = self.begin_call(as_text(block.get("id")), as_text(block.get("name")))
            self.call_at[index if isinstance(index, int) else None] = call
            if arguments := block.get("input"):  # empty in a stream: it comes in fragments
                self.add_arguments(call, written_arguments(arguments))

    def _take_delta(self, index: object, delta: dict[str, Any], found: list[Event]) -> None:
        kind = delta.get("type")
        if kind == "text_delta":
            add_text(found, as_text(delta.get("text")))
        elif kind == "thinking_delta":
            add_reasoning(found, as_text(delta.get("thinking")))
        elif kind == "input_json_delta":
            call = self.call_at.get(index if isinstance(index, int) else None)
            if call is not None:
                self.add_arguments(call, as_text(delta.get("partial_json")))

    def _take_stop(self, reason: object) -> None:
        if isinstance(reason, str) and reason:
            self.finish_reason = FINISH_REASONS.get(reason, reason)

    def _take_usage(self, usage: dict[str, Any]) -> None:
        """Add what is said now to what was said before. Tokens from the cache were part of the prompt, too."""
        known = self.usage or Usage(None, None)
        prompt = as_count(usage.get("input_tokens"))
        if prompt is not None:
            prompt += as_count(usage.get("cache_creation_input_tokens")) or 0
            prompt += as_count(usage.get("cache_read_input_tokens")) or 0
            prompt = as_count(prompt)  # the sum has to be one, too
        completion = as_count(usage.get("output_tokens"))
        if prompt is not None or completion is not None:
            self.usage = Usage(
                known.prompt_tokens if prompt is None else prompt,
                known.completion_tokens if completion is None else completion,
            )


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that this protocol knows, by its names."""
    bound = given.get("max_tokens") or given.get("max_completion_tokens") or DEFAULT_MAX_TOKENS
    sent = {"max_tokens": bound} | {
        name: given[name] for name in ("temperature", "top_p", "top_k") if given.get(name) is not None
    }
    if stop := given.get("stop"):
        sent["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if tools := given.get("tools"):
        sent["tools"] = [_tool(as_dict(tool)) for tool in as_list(tools)]
        if choice := _tool_choice(given.get("tool_choice")):
            sent["tool_choice"] = choice
    return sent


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = as_dict(tool.get("function"))
    sent = {"name": function.get("name"), "input_schema": function.get("parameters") or {"type": "object"}}
    if description := function.get("description"):
        sent["description"] = description
    return sent


def _tool_choice(choice: object) -> dict[str, Any] | None:
    if isinstance(choice, str):
        return {"type": TOOL_CHOICES[choice]} if choice in TOOL_CHOICES else None
    name = as_dict(as_dict(choice).get("function")).get("name")
    return {"type": "tool", "name": name} if name else None


def _messages(messages: Iterable[ChatMessage]) -> list[dict[str, Any]]:
    """The conversation, with one message where several of one role follow each other; empty ones are refused there."""
    merged: list[dict[str, Any]] = []
    for message in messages:
        if message.role in ("system", "developer") or not (blocks := _blocks(message)):
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += blocks
        else:
            merged.append({"role": role, "content": blocks})
    return merged


def _blocks(message: ChatMessage) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [
            {
                "type": "tool_result",
                "tool_use_id": message.tool_call_id or "",
                "content": _contents(message),
            }
        ]
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}
        for call in message.tool_calls
    ]
    return _contents(message) + calls


def _input(arguments: str) -> dict[str, Any]:
    """A call's arguments as an object, which the protocol wants; the model may have written something else."""
    value = loads(arguments or "{}")
    return value if isinstance(value, dict) and can_be_sent(value) else {"arguments": arguments}


def _contents(message: ChatMessage) -> list[dict[str, Any]]:
    parts = (TextPart(message.content),) if isinstance(message.content, str) else message.content
    return [_block(part) for part in parts if not isinstance(part, TextPart) or part.text]


def _block(part: TextPart | ImagePart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    content = base64.b64encode(part.content).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": content}}


def _text_of(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n\n".join(part.text for part in message.content if isinstance(part, TextPart))
