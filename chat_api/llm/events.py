"""The events of a provider's reply, independent of its protocol."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next part of the reply's text; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next part of the model's reasoning; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call that the model requests. Always complete: parsers put the fragments together."""

    id: str
    name: str
    arguments: str  # JSON as the model wrote it; may be malformed


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts from the provider, None where it gave none. The last one in a reply counts."""

    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the model stopped: "stop", "length", "tool_calls", "content_filter", or the provider's own value."""

    reason: str


Event = TextDelta | ReasoningDelta | ToolCall | Usage | Finish
