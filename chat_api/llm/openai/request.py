"""Requests of OpenAI's chat completions: addresses, headers, bodies."""

from typing import Any

from ..headers import key_headers
from ..request import ChatMessage, ChatRequest, Endpoint, RequestBody
from ..translation import merged
from ..vendors import BEARER
from .parameters import translate_parameters

COMPLETIONS_PATH = "/chat/completions"


def headers(endpoint: Endpoint, key: str) -> dict[str, str]:
    """The headers of this protocol."""
    return key_headers(endpoint, key, BEARER)


def request_body(request: ChatRequest, endpoint: Endpoint) -> RequestBody:
    """The body of a request. Neither parameters nor the provider's own fields override those that we set ourselves."""
    options = endpoint.options
    translation = translate_parameters(request, options)
    sent = {
        **merged(endpoint.extra_body, translation.fields),
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": options.stream,
    }
    sent.pop("stream_options", None)
    if options.stream and options.stream_options:
        sent["stream_options"] = {"include_usage": True}
    return RequestBody(sent, tuple(translation.warnings))


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
