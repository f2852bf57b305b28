"""Requests of OpenAI's chat completions: addresses, headers, bodies."""

from collections.abc import Mapping
from typing import Any

from ..headers import key_headers
from ..request import ChatMessage, ChatRequest, Endpoint
from ..vendors import BEARER

COMPLETIONS_PATH = "/chat/completions"


def headers(endpoint: Endpoint, key: str) -> dict[str, str]:
    """The headers of this protocol."""
    return key_headers(endpoint, key, BEARER)


def request_body(request: ChatRequest) -> dict[str, Any]:
    """The body of a request. Parameters can't override the fields that we set ourselves."""
    return {
        **request.parameters,
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def corrected_body(sent: Mapping[str, Any], complaint: str) -> dict[str, Any] | None:
    """The body without the field that the server complains about, or None if the complaint is about something else."""
    if "max_completion_tokens" in complaint and "max_tokens" in sent:
        renamed = dict(sent)
        renamed["max_completion_tokens"] = renamed.pop("max_tokens")
        return renamed
    if "stream_options" in complaint and "stream_options" in sent:
        return {name: value for name, value in sent.items() if name != "stream_options"}
    return None


def _message(message: ChatMessage) -> dict[str, Any]:
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        sent["content"] = message.content or None
        sent["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        sent["tool_call_id"] = message.tool_call_id
    return sent
