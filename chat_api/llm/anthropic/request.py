"""Requests of Anthropic's Messages API: addresses, headers, bodies."""

from collections.abc import Mapping
from typing import Any

from ..headers import key_headers
from ..history import acceptable, left_out_warnings
from ..request import ChatRequest, Endpoint, RequestBody
from ..translation import body_fields
from .messages import sent_messages, system_text
from .parameters import translate_parameters

COMPLETIONS_PATH = "/messages"
VERSION = "2023-06-01"


def headers(endpoint: Endpoint, key: str) -> dict[str, str]:
    """The headers of this protocol."""
    return {"anthropic-version": VERSION, **key_headers(endpoint, key, "x-api-key")}


def request_body(request: ChatRequest, endpoint: Endpoint) -> RequestBody:
    """The body of a request: `system` apart, consecutive messages of one role merged, parameters translated."""
    left_out = left_out_warnings(request, endpoint)
    request = acceptable(request, endpoint)
    translation = translate_parameters(request, endpoint.options)
    text = system_text(request.messages, translation.instruction)
    sent = {
        **body_fields(endpoint.extra_body, translation.fields),
        "model": request.model,
        "messages": sent_messages(request.messages),
        "stream": endpoint.options.stream,
    }
    if sent.get("tools") and translation.tool_choice:  # tools of the provider's own fields
        sent.setdefault("tool_choice", translation.tool_choice)
    if text:
        sent["system"] = text
    if translation.cache_control:
        _mark_for_cache(sent, translation.cache_control)
    return RequestBody(sent, (*translation.warnings, *left_out))


def _mark_for_cache(sent: dict[str, Any], cache_control: Mapping[str, str]) -> None:
    """Mark the ends of the system prompt and of the messages: what is before them is cached."""
    if text := sent.get("system"):
        sent["system"] = [{"type": "text", "text": text, "cache_control": cache_control}]
    for message in reversed(sent["messages"]):
        blocks = message["content"]
        if blocks[-1]["type"] not in ("thinking", "redacted_thinking"):  # which can't be marked
            message["content"] = [*blocks[:-1], {**blocks[-1], "cache_control": cache_control}]
            return
