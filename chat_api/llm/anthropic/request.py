"""Requests of Anthropic's Messages API: addresses, headers, bodies."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..headers import key_headers
from ..request import ChatMessage, ChatRequest, Endpoint
from ..untrusted_json import as_dict, as_list, is_serializable, parse_json

COMPLETIONS_PATH = "/messages"
VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 4096  # the protocol requires a limit

TOOL_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def headers(endpoint: Endpoint, key: str) -> dict[str, str]:
    """The headers of this protocol."""
    return {"anthropic-version": VERSION, **key_headers(endpoint, key, "x-api-key")}


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
