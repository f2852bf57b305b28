"""Anthropic's Messages API, version 2023-06-01."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import stream_parser
from .error_responses import error_of_report
from .events import Event, Usage
from .request import ChatMessage, ChatRequest, Endpoint
from .sse import Frame
from .stream_parser import add_reasoning, add_text, serialize_arguments
from .untrusted_json import as_count, as_dict, as_list, as_text, is_serializable, items_of, parse_json

VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 4096  # the protocol requires a limit

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
    """The path to append to the endpoint's own, which may include the version already."""
    return _versioned(endpoint_path, "/messages")


def models_path(endpoint_path: str) -> str:
    """The path to append to the endpoint's own, which may include the version already."""
    return _versioned(endpoint_path, "/models")


def _versioned(endpoint_path: str, path: str) -> str:
    return path if endpoint_path.rstrip("/").endswith("/v1") else f"/v1{path}"


def headers(endpoint: Endpoint, key: str) -> dict[str, str]:
    """The headers of this protocol. Without a key for the endpoint none is sent: a local server may need none."""
    return {"anthropic-version": VERSION, **({"x-api-key": key} if endpoint.api_key else {})}


def request_body(request: ChatRequest) -> dict[str, Any]:
    """The body of a request: `system` apart, consecutive messages of one role merged, parameters translated."""
    system = [message.content for message in request.messages if message.role in ("system", "developer")]
    sent: dict[str, Any] = {
        "model": request.model,
        "messages": _messages(request.messages),
        "stream": True,
        **_parameters(request.parameters),
    }
    if text := "\n\n".join(content for content in system if content):
        sent["system"] = text
    return sent


def corrected_body(sent: Mapping[str, Any], complaint: str) -> dict[str, Any] | None:
    """None: Anthropic's own server knows every field that is sent, so no complaint can be fixed by leaving one out."""
    return None


def parse_stream(reads: Iterable[list[Frame]], *, key: str, reply_bytes: int) -> Iterator[list[Event]]:
    """The typed events of a streamed reply."""
    return stream_parser.parse_stream(AnthropicStreamParser(key, reply_bytes), reads)


def parse_json_reply(answer: Any, *, key: str, reply_bytes: int) -> list[Event]:
    """The typed events of a reply that came as one JSON object although a stream was requested."""
    return stream_parser.parse_json_reply(AnthropicStreamParser(key, reply_bytes), answer)


class AnthropicStreamParser(stream_parser.StreamParser):
    """Parses the events of the Messages API: content blocks and their deltas."""

    def take(self, frame: Frame, found: list[Event]) -> None:
        """Append the events in a frame."""
        event = parse_json(frame.data)
        is_valid = isinstance(event, dict) and isinstance(event.get("type"), str)
        self.note_frame(is_valid=is_valid)
        if not is_valid:
            if frame.event == "error" or as_dict(event).get("error"):
                raise error_of_report(as_dict(event).get("error") or frame.data, self.key)
            return
        kind = event["type"]
        if kind == "content_block_delta":
            self._take_delta(event.get("index"), as_dict(event.get("delta")), found)
        elif kind == "content_block_start":
            self._take_block(event.get("index"), as_dict(event.get("content_block")), found)
        elif kind == "message_start":
            usage = as_dict(as_dict(event.get("message")).get("usage"))
            # `output_tokens` counts only the beginning here; for a truncated reply it would remain the final figure
            self._take_usage({**usage, "output_tokens": None})
            if self.usage:
                found.append(self.usage)
        elif kind == "message_delta":
            self._take_stop(as_dict(event.get("delta")).get("stop_reason"))
            self._take_usage(as_dict(event.get("usage")))
        elif kind == "message_stop":
            self.is_done = True
        elif kind == "error":
            raise error_of_report(event.get("error"), self.key)

    def take_json(self, answer: Any, found: list[Event]) -> None:
        """Append the events of a whole message."""
        fields = as_dict(answer)
        if error := fields.get("error"):
            raise error_of_report(error, self.key)
        is_valid = isinstance(fields.get("content"), list)
        self.note_frame(is_valid=is_valid)
        if not is_valid:
            return
        for index, block in enumerate(items_of(fields["content"])):
            self._take_block(index, as_dict(block), found)
        self._take_stop(fields.get("stop_reason"))
        self._take_usage(as_dict(fields.get("usage")))

    def _take_block(self, index: object, block: dict[str, Any], found: list[Event]) -> None:
        """Take the start of a block in a stream, or a whole block."""
        kind = block.get("type")
        if kind == "text":
            add_text(found, as_text(block.get("text")))
        elif kind == "thinking":
            add_reasoning(found, as_text(block.get("thinking")))
        elif kind == "tool_use":
            call = self.begin_call(as_text(block.get("id")), as_text(block.get("name")))
            self.call_at[index if isinstance(index, int) else None] = call
            if arguments := block.get("input"):  # empty in a stream, where it follows in fragments
                self.add_arguments(call, serialize_arguments(arguments))

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
        """Merge these counts into the earlier ones. Tokens read from or written to the cache are prompt tokens, too."""
        known = self.usage or Usage(None, None)
        prompt = as_count(usage.get("input_tokens"))
        if prompt is not None:
            prompt += as_count(usage.get("cache_creation_input_tokens")) or 0
            prompt += as_count(usage.get("cache_read_input_tokens")) or 0
            prompt = as_count(prompt)  # the sum may exceed the range
        completion = as_count(usage.get("output_tokens"))
        if prompt is not None or completion is not None:
            self.usage = Usage(
                known.prompt_tokens if prompt is None else prompt,
                known.completion_tokens if completion is None else completion,
            )


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that this protocol has, under its names."""
    sent = {"max_tokens": given.get("max_tokens") or DEFAULT_MAX_TOKENS} | {
        name: given[name] for name in ("temperature", "top_p") if given.get(name) is not None
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
    """The conversation with consecutive messages of one role merged, and without empty ones, which the API refuses."""
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
                "content": _content(message),
            }
        ]
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}
        for call in message.tool_calls
    ]
    return _content(message) + calls


def _input(arguments: str) -> dict[str, Any]:
    """A call's arguments as an object, as the protocol requires; the model may have written something else."""
    value = parse_json(arguments or "{}")
    return value if isinstance(value, dict) and is_serializable(value) else {"arguments": arguments}


def _content(message: ChatMessage) -> list[dict[str, Any]]:
    return [{"type": "text", "text": message.content}] if message.content else []
