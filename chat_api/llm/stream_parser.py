"""The part of parsing a streamed reply that all protocols share: events from frames, errors, the end."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from uuid import uuid4

import orjson

from ..egress.errors import EgressError, Failed, TimedOut, Unreachable
from .events import Event, Finish, ReasoningDelta, TextDelta, ToolCall, Usage
from .sse import Frame

# what a tool call counts towards the limit in addition to its text, so that the number of empty ones is bounded
TOOL_CALL_BYTES = 100

ENDED_EARLY = "The provider's response ended before the reply was complete."


class ReplyTooLarge(Exception):
    """The tool calls alone exceed the limit of a parser."""


@dataclass(slots=True)
class PartialToolCall:
    """A tool call whose fragments are still arriving."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)

    def complete(self) -> ToolCall:
        """The whole call, with an id of ours if the provider gave none."""
        return ToolCall(self.id or f"call_{uuid4().hex}", self.name, "".join(self.arguments))


class StreamParser:
    """State of one reply while it arrives. A protocol's subclass implements `take` and `take_json`."""

    def __init__(self, key: str, reply_bytes: int) -> None:
        self.key = key
        self.finish_reason: str | None = None
        self.is_done = False  # the provider marked the end
        self.usage: Usage | None = None
        self.calls: list[PartialToolCall] = []
        self.call_at: dict[object, PartialToolCall] = {}  # by the index in later fragments
        self._has_valid = False
        self._has_invalid = False
        self._remaining_bytes = reply_bytes

    def take(self, frame: Frame, found: list[Event]) -> None:
        """Append the events in a frame. Raises EgressError if the frame reports an error."""
        raise NotImplementedError

    def take_json(self, answer: Any, found: list[Event]) -> None:
        """Append the events of a reply that came as one JSON value. Raises as `take` does."""
        raise NotImplementedError

    def note_frame(self, *, is_valid: bool) -> None:
        """Record whether a frame was one of the protocol's: a stream that has none is an error."""
        if is_valid:
            self._has_valid = True
        else:
            self._has_invalid = True

    def begin_call(self, id: str, name: str) -> PartialToolCall:
        """Start a tool call."""
        self._count(TOOL_CALL_BYTES + len(id) + len(name))
        call = PartialToolCall(id, name)
        self.calls.append(call)
        return call

    def add_arguments(self, call: PartialToolCall, fragment: str) -> None:
        """Append to a call's arguments."""
        self._count(len(fragment))
        call.arguments.append(fragment)

    def end(self) -> list[Event]:
        """The last events: tool calls, usage, finish. Raises EgressError if the reply is incomplete."""
        if self._has_invalid and not self._has_valid:
            raise Failed("The provider's stream contains no parser.")
        if self.finish_reason is None and not self.is_done:
            raise Unreachable(ENDED_EARLY)
        reason = self.finish_reason or "stop"
        if self.calls and reason in ("stop", "function_call"):  # some servers report this
            reason = "tool_calls"
        usage = [self.usage] if self.usage else []
        return [*(call.complete() for call in self.calls), *usage, Finish(reason)]

    def _count(self, size: int) -> None:
        self._remaining_bytes -= size
        if self._remaining_bytes < 0:
            raise ReplyTooLarge


def add_text(found: list[Event], text: str) -> None:
    """Append text unless it is empty."""
    if text:
        found.append(TextDelta(text))


def add_reasoning(found: list[Event], text: str) -> None:
    """Append reasoning unless it is empty."""
    if text:
        found.append(ReasoningDelta(text))


def join_texts(found: list[Event]) -> list[Event]:
    """The same events with adjacent texts joined. All at once: adding 100,000 of them one by one takes a minute."""
    if len(found) < 2:
        return found
    events: list[Event] = []
    for kind, alike in groupby(found, type):
        if kind is TextDelta or kind is ReasoningDelta:
            events.append(kind("".join(event.text for event in alike)))  # type: ignore[union-attr]
        else:
            events += alike
    return events


def serialize_arguments(arguments: dict[str, object]) -> str:
    """A call's arguments, which came as an object, as JSON. Raises Failed if they can't be serialized."""
    try:
        return orjson.dumps(arguments).decode()
    except TypeError:  # nested too deeply, or a number of more than 64 bits
        raise Failed("The provider sent a tool call with arguments that can't be read.") from None


def parse_json_reply(parser: StreamParser, answer: Any) -> list[Event]:
    """All events of a reply that came as one JSON value."""
    found: list[Event] = []
    parser.take_json(answer, found)
    parser.is_done = True
    return join_texts(found) + parser.end()


def parse_stream(parser: StreamParser, reads: Iterable[list[Frame]]) -> Iterator[list[Event]]:
    """The reply's events, a list for each read that completed some. Those before an error are yielded first."""
    try:
        for frames in reads:
            found: list[Event] = []
            failure: EgressError | ReplyTooLarge | None = None
            try:
                for frame in frames:
                    parser.take(frame, found)
                    if parser.is_done:
                        break
            except (EgressError, ReplyTooLarge) as error:
                failure = error
            if found:
                yield join_texts(found)
            if failure is not None:
                raise failure
            if parser.is_done:
                break
    except (Unreachable, TimedOut):
        if parser.finish_reason is None:  # else only the end marker is missing
            raise
    yield parser.end()
