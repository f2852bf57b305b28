"""The events of a provider's reply, independent of its protocol."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next part of the reply's text; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next part of the model's reasoning; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class TextWasReasoning:
    """All text so far was reasoning: only the end of it was marked, after it had been passed on."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call that the model requests. Always complete: parsers put the fragments together."""

    id: str
    name: str
    arguments: str  # JSON as the model wrote it; may be malformed


@dataclass(frozen=True, slots=True)
class Source:
    """Something that the reply refers to. `places` are (begin, end) in the reply's text, in characters.

    The same URL may come again with more; the last one counts. `marks` are texts that refer to it wherever they are in
    the reply, such as "[1]".
    """

    url: str
    title: str | None = None
    places: tuple[tuple[int, int], ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileData:
    """The next bytes of a picture, a recording or a video; those with the same number are one file, in their order.

    It is whole with the one that `is_last`. `content` can be read once, and only until the next read of the reply;
    it raises `base64_content.Unreadable`.
    """

    number: int
    kind: str  # "image", "audio" or "video"
    content: Iterator[bytes]
    is_last: bool = True
    media_type: str = ""  # what the provider calls it


@dataclass(frozen=True, slots=True)
class ProviderState:
    """What the provider wants back with this message in later requests: signatures, encrypted or open reasoning.

    Nobody else can read it. It is a JSON object that only the adapter of the protocol that made it understands, and it
    goes back to the same provider and model only. At most one in a reply, before Finish; empty where there was more
    of it than is kept.
    """

    state: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts from the provider, None where it gave none. The last one in a reply counts."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None = None  # of the prompt's
    reasoning_tokens: int | None = None  # of the completion's


@dataclass(frozen=True, slots=True)
class Corrected:
    """The server refused the request at first, and accepted it with other options. At most one, before all else.

    `of_server` are changes of `options.RequestOptions` that hold for the model whoever asks, `of_caller` those that
    are due to the caller's key or parameters; both only what is worth remembering. `warnings` are those of what was
    sent.
    """

    of_server: Mapping[str, Any]
    of_caller: Mapping[str, Any]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """What of the reply is not kept, for the warnings of the completion."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the model stopped: "stop", "length", "tool_calls", "content_filter", or the provider's own value."""

    reason: str


Event = (
    TextDelta
    | ReasoningDelta
    | TextWasReasoning
    | ToolCall
    | Source
    | FileData
    | ProviderState
    | Usage
    | Corrected
    | Notice
    | Finish
)
