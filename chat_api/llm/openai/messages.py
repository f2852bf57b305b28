"""Messages of OpenAI's chat completions, as they are sent: those of `history`, one by one."""

from collections.abc import Iterable
from typing import Any

from ..request import ChatMessage
from ..untrusted_json import as_dict, as_list
from .state import CALL_FIELDS, MESSAGE_FIELDS


def sent_messages(messages: Iterable[ChatMessage]) -> list[dict[str, Any]]:
    """The messages of a request."""
    return [_message(message) for message in messages]


def _message(message: ChatMessage) -> dict[str, Any]:
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.state:
        own = as_dict(message.state.get("message"))
        sent |= {name: own[name] for name in MESSAGE_FIELDS if own.get(name) is not None}
    if message.tool_calls:
        sent["content"] = message.content or None
        sent["tool_calls"] = _calls(message)
    if message.tool_call_id is not None:
        sent["tool_call_id"] = message.tool_call_id
    return sent


def _calls(message: ChatMessage) -> list[dict[str, Any]]:
    extras = as_list((message.state or {}).get("tool_calls"))
    extras += [None] * (len(message.tool_calls) - len(extras))
    return [
        {
            **{name: value for name, value in as_dict(extra).items() if name not in CALL_FIELDS},
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call, extra in zip(message.tool_calls, extras, strict=False)
    ]
