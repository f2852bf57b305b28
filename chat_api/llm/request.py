"""A request to a provider, independent of its protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .events import ToolCall
from .options import RequestOptions
from .parts import Part

API_FORMATS = ("openai", "anthropic")


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the conversation, as it is sent to the provider."""

    role: str  # system, developer, user, assistant, tool
    content: str
    tool_calls: tuple[ToolCall, ...] = ()  # of an assistant message
    tool_call_id: str | None = None  # of a tool message: the call it answers
    # of an assistant message: what this provider sent with it for itself, see `events.ProviderState`
    state: Mapping[str, Any] | None = None
    # of a user's message that has more than text: all of it in order; `content` has the texts alone
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider's URL and protocol, and the user's key for it."""

    api_format: str
    api_endpoint: str  # http or https URL, which may have a path and a query
    api_key: str = field(repr=False)
    auth: str | None = (
        None  # "bearer", or the name of the header that takes the key; None: as the protocol has it
    )
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # besides those of the protocol
    extra_body: Mapping[str, Any] = field(default_factory=dict)  # fields of every request
    options: RequestOptions = field(default_factory=RequestOptions)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A reply to request. Parameters have OpenAI's names; an adapter translates those that its protocol has."""

    model: str
    messages: tuple[ChatMessage, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    cache_key: str | None = (
        None  # the same for all requests that begin alike, for vendors that cache by a key
    )


@dataclass(frozen=True, slots=True)
class RequestBody:
    """What is sent for a request, and what of the request is not in it or not as it was given."""

    fields: dict[str, Any]
    warnings: tuple[str, ...] = ()
