"""Requests of Anthropic's Messages API: addresses, headers, bodies."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..headers import key_headers
from ..request import ChatMessage, ChatRequest, Endpoint, RequestBody
from ..translation import merged
from ..untrusted_json import is_serializable, parse_json
from .parameters import translate_parameters

COMPLETIONS_PATH = "/messages"
VERSION = "2023-06-01"


def headers(endpoint: Endpoint, key: str) -> dict[str, str]:
    """The headers of this protocol."""
    return {"anthropic-version": VERSION, **key_headers(endpoint, key, "x-api-key")}


def request_body(request: ChatRequest, endpoint: Endpoint) -> RequestBody:
    """The body of a request: `system` apart, consecutive messages of one role merged, parameters translated."""
    translation = translate_parameters(request, endpoint.options)
    system = [message.content for message in request.messages if message.role in ("system", "developer")]
    text = "\n\n".join(content for content in (*system, translation.instruction) if content)
    sent = {
        **merged(endpoint.extra_body, translation.fields),
        "model": request.model,
        "messages": _messages(request.messages),
        "stream": endpoint.options.stream,
    }
    if text:
        sent["system"] = text
    if translation.cache_control:
        _mark_for_cache(sent, translation.cache_control)
    return RequestBody(sent, tuple(translation.warnings))


def _mark_for_cache(sent: dict[str, Any], cache_control: Mapping[str, str]) -> None:
    """Mark the ends of the system prompt and of the messages: what is before them is cached."""
    if text := sent.get("system"):
        sent["system"] = [{"type": "text", "text": text, "cache_control": cache_control}]
    for message in reversed(sent["messages"]):
        blocks = message["content"]
        if blocks[-1]["type"] not in ("thinking", "redacted_thinking"):  # which can't be marked
            message["content"] = [*blocks[:-1], {**blocks[-1], "cache_control": cache_control}]
            return


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
