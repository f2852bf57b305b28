"""What all protocols' streams have in common: events out of frames, errors in between, the end."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from uuid import uuid4

import orjson

from ..egress.errors import EgressError, Failed, TimedOut, Unreachable
from .events import Event, Finish, ReasoningDelta, TextDelta, ToolCall, Usage
from .sse import Frame

# what a call to a tool weighs beside its text, so that endless empty ones come to an end, too
TOOL_CALL_BYTES = 100

ENDED_EARLY = "The provider's answer ended in the middle."


class AnswerFull(Exception):
    """The tool calls alone have reached the bound of an answer."""


@dataclass(slots=True)
class BegunToolCall:
    """A call to a tool of which fragments came."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)

    def whole(self) -> ToolCall:
        """The call, with an id of ours where the provider gave none."""
        return ToolCall(self.id or f"call_{uuid4().hex}", self.name, "".join(self.arguments))


class StreamParser:
    """One reply while it comes in. A protocol's own class says in `take` what its frames mean."""

    def __init__(self, key: str, answer_bytes: int) -> None:
        self.key = key
        self.finish_reason: str | None = None
        self.is_done = False  # the provider said so
        self.usage: Usage | None = None
        self.calls: list[BegunToolCall] = []
        self.call_at: dict[object, BegunToolCall] = {}  # by the index that later fragments name
        self._understood = False
        self._garbled = False
        self._left_bytes = answer_bytes

    def take(self, frame: Frame, found: list[Event]) -> None:
        """Append the events that a frame brings. Raises EgressError where it is an error report."""
        raise NotImplementedError

    def take_whole(self, answer: Any, found: list[Event]) -> None:
        """Append the events of a reply that came in one piece. Raises as `take` does."""
        raise NotImplementedError

    def understood(self, is_one: bool) -> bool:
        """Note whether a frame was one of the protocol's; says the same."""
        if is_one:
            self._understood = True
        else:
            self._garbled = True
        return is_one

    def begin_call(self, id: str, name: str) -> BegunToolCall:
        """Note that a call to a tool begins."""
        self._count(TOOL_CALL_BYTES + len(id) + len(name))
        call = BegunToolCall(id, name)
        self.calls.append(call)
        return call

    def add_arguments(self, call: BegunToolCall, fragment: str) -> None:
        """Add to a call's arguments."""
        self._count(len(fragment))
        call.arguments.append(fragment)

    def end(self) -> list[Event]:
        """The last events: tool calls, usage, finish. Raises EgressError if the reply has no end."""
        if self._garbled and not self._understood:
            raise Failed("The provider sent a stream in which nothing is a reply.")
        if self.finish_reason is None and not self.is_done:
            raise Unreachable(ENDED_EARLY)
        reason = self.finish_reason or "stop"
        if self.calls and reason in ("stop", "function_call"):  # some servers say so
            reason = "tool_calls"
        usage = [self.usage] if self.usage else []
        return [*(call.whole() for call in self.calls), *usage, Finish(reason)]

    def _count(self, size: int) -> None:
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise AnswerFull


def add_text(found: list[Event], text: str) -> None:
    """Append text, if there is some."""
    if text:
        found.append(TextDelta(text))


def add_reasoning(found: list[Event], text: str) -> None:
    """Append reasoning, if there is some."""
    if text:
        found.append(ReasoningDelta(text))


def joined(found: list[Event]) -> list[Event]:
    """The same with neighbouring texts as one. At once: a hundred thousand, each added to the last, take a minute."""
    if len(found) < 2:
        return found
    events: list[Event] = []
    for kind, alike in groupby(found, type):
        if kind is TextDelta or kind is ReasoningDelta:
            events.append(kind("".join(event.text for event in alike)))  # type: ignore[union-attr]
        else:
            events += alike
    return events


def written_arguments(arguments: dict[str, object]) -> str:
    """The JSON of a call's arguments that came as an object. Raises Failed where nobody could write it."""
    try:
        return orjson.dumps(arguments).decode()
    except TypeError:  # nested too deeply, or a number of more than 64 bits
        raise Failed("The provider sent a call to a tool whose arguments can't be read.") from None


def whole(reply: StreamParser, answer: Any) -> list[Event]:
    """The events of a reply that came in one piece, to the last."""
    found: list[Event] = []
    reply.take_whole(answer, found)
    reply.is_done = True
    return joined(found) + reply.end()


def events(reply: StreamParser, reads: Iterable[list[Frame]]) -> Iterator[list[Event]]:
    """The reply's events, one list for each read that brought some. What came before an error is given first."""
    try:
        for frames in reads:
            found: list[Event] = []
            failure: EgressError | AnswerFull | None = None
            try:
                for frame in frames:
                    reply.take(frame, found)
                    if reply.is_done:
                        break
            except (EgressError, AnswerFull) as error:
                failure = error
            if found:
                yield joined(found)
            if failure is not None:
                raise failure
            if reply.is_done:
                break
    except (Unreachable, TimedOut):
        if reply.finish_reason is None:  # else only the farewell is missing
            raise
    yield reply.end()
