"""What a provider's reply is made of, whatever protocol it speaks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the reply's text; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next piece of what the model thinks before it replies; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks its caller to make. Whole: adapters put the fragments together."""

    id: str
    name: str
    arguments: str  # JSON as the model wrote it, which may be malformed


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counts them; None for what it did not say. The last one of a reply counts."""

    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the model stopped: "stop", "length", "tool_calls", "content_filter", or the provider's own word."""

    reason: str


Event = TextDelta | ReasoningDelta | ToolCall | Usage | Finish
