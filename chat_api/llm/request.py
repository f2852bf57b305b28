"""A request to a provider, independent of its protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .events import ToolCall

API_FORMATS = ("openai", "anthropic")


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the conversation, as it is sent to the provider."""

    role: str  # system, developer, user, assistant, tool
    content: str
    tool_calls: tuple[ToolCall, ...] = ()  # of an assistant message
    tool_call_id: str | None = None  # of a tool message: the call it answers


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider's URL and protocol, and the user's key for it."""

    api_format: str
    api_endpoint: str  # http or https URL, which may have a path and a query
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A reply to request. Parameters have OpenAI's names; an adapter translates those that its protocol has."""

    model: str
    messages: tuple[ChatMessage, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
