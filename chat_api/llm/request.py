"""What is asked of a provider, whatever protocol it speaks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .events import ToolCall

API_FORMATS = ("openai", "anthropic")


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image that goes along with a message."""

    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the conversation, as it is sent."""

    role: str  # system, developer, user, assistant, tool
    content: str | tuple[TextPart | ImagePart, ...]
    tool_calls: tuple[ToolCall, ...] = ()  # of an assistant's message
    tool_call_id: str | None = None  # which call a tool's message answers


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider listens, what it speaks, and the user's key for it."""

    api_format: str
    api_endpoint: str  # http or https URL; may have a path and a query
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A reply to ask for. Parameters have OpenAI's names; an adapter translates those that its protocol knows."""

    model: str
    messages: tuple[ChatMessage, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
