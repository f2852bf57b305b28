"""The part of parsing a streamed reply that all protocols share: events from frames, errors, the end."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from typing import Any
from uuid import uuid4

import orjson

from ..egress.errors import EgressError, Failed, TimedOut, Unreachable
from .base64_content import LongRuns
from .error_responses import error_of_no_reply, error_of_report, error_of_stray
from .events import Event, Finish, ProviderState, ReasoningDelta, TextDelta, ToolCall, Usage
from .finish_reasons import STOP, TOOL_CALLS, finish_reason, is_complete
from .provider_state import StateTooLarge
from .redaction import Secrets
from .reply_media import ReplyMedia
from .reply_text import ReplyText
from .sources import Sources
from .sse import Frame
from .token_details import TokenDetails
from .untrusted_json import parse_json

# what a tool call counts towards the limit in addition to its text, so that the number of empty ones is bounded
TOOL_CALL_BYTES = 100
MAX_TOOL_CALLS = 500  # in one reply
MAX_CALL_TEXT = (
    255  # characters of a call's id and name: as many as its result, and clients that send it back, may use
)
# A frame costs some microseconds however little it brings. No model writes so many tokens in one reply.
MAX_FRAMES = 500_000
# Of frames that bring nothing (pings, empty deltas of a model that thinks in silence) less is taken: each counts
# its bytes and so many more.
EMPTY_FRAME_BYTES = 200
MAX_EMPTY_BYTES = 24 * 1024 * 1024

NO_ARGUMENTS = ("", "null", '""', "None")  # what some servers send for none

ERROR_EVENTS = frozenset(("error", "Error", "ERROR", "exception"))  # the names of events that report one
ENDED_EARLY = "The provider's response ended before the reply was complete."


class ReplyTooLarge(Exception):
    """The tool calls alone exceed the limit of a parser."""


@dataclass(slots=True)
class PartialToolCall:
    """A tool call whose fragments are still arriving."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)
    size: int = 0  # of the arguments, in characters

    def joined(self) -> str:
        """The arguments so far."""
        if len(self.arguments) > 1:
            self.arguments = ["".join(self.arguments)]
        return self.arguments[0] if self.arguments else ""

    def replace_arguments(self) -> None:
        """Forget the arguments: others come in their stead."""
        self.arguments, self.size = [], 0

    def complete(self) -> ToolCall:
        """The whole call, with an id that its result can have, and an empty object for no arguments."""
        arguments = self.joined()
        if len(arguments) < 10 and arguments.strip() in NO_ARGUMENTS:
            arguments = "{}"
        return ToolCall(_usable_id(self.id), self.name[:MAX_CALL_TEXT], arguments)


class StreamParser:
    """State of one reply while it arrives. A protocol's subclass implements `take` and `take_json`."""

    def __init__(self, secrets: Secrets, reply_bytes: int, runs: LongRuns | None = None) -> None:
        """`runs` has the long files of the response, if any are taken out of it."""
        self.secrets = secrets
        self.finish_reason: str | None = None
        self.is_done = False  # the provider marked the end
        self.usage: Usage | None = None
        self.text = ReplyText()
        self.sources = Sources()
        self.media = ReplyMedia(runs)
        self.calls: list[PartialToolCall] = []
        self.call_at: dict[object, PartialToolCall] = {}  # by the index in later fragments
        self.has_brought = False  # something of a reply came
        self._has_valid = False
        self._has_invalid = False
        self._stray: object = (
            None  # the first object that is no part of a reply; it may say why there is none
        )
        self._remaining_bytes = reply_bytes
        self._remaining_frames = MAX_FRAMES
        self._remaining_empty_bytes = MAX_EMPTY_BYTES
        self._fragments = 0  # of tool calls that brought something, since the last read

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

    def note_stray(self, value: object) -> None:
        """Record a value that is no part of a reply. Raises EgressError if it reports an error."""
        if error := error_of_stray(value, self.secrets):
            raise error
        self._stray = self._stray or value

    def note_unparsed(self, data: str) -> None:
        """Record the data of an event that is no object: it may be the words of an error."""
        self.note_frame(is_valid=False)
        if data.lstrip()[:1] not in ("{", "["):
            self._stray = self._stray or data

    def note_events(self, found: list[Event]) -> None:
        """Record whether something of a reply came; counts of tokens alone are none."""
        self.has_brought = self.has_brought or any(not isinstance(event, Usage) for event in found)

    def begin_call(self, id: str, name: str) -> PartialToolCall:
        """Start a tool call."""
        if len(self.calls) >= MAX_TOOL_CALLS:
            raise Failed(f"The provider's reply has more than {MAX_TOOL_CALLS} tool calls.")
        self._count(TOOL_CALL_BYTES + len(id) + len(name))
        call = PartialToolCall(id, name)
        self.calls.append(call)
        return call

    def name_call(self, call: PartialToolCall, id: str, name: str) -> None:
        """Give a call the id and the name that its first fragment did not have."""
        if id and not call.id:
            self._count(len(id))
            call.id = id
        if name and not call.name:
            self._count(len(name))
            call.name = name

    def add_arguments(self, call: PartialToolCall, fragment: str) -> None:
        """Append to a call's arguments."""
        if fragment:
            self._count(len(fragment))
            call.arguments.append(fragment)
            call.size += len(fragment)

    def merge_usage(
        self, prompt_tokens: int | None, completion_tokens: int | None, details: TokenDetails
    ) -> None:
        """Take counts. One that is missing, or 0 after another, changes nothing: some servers send them in parts."""
        known = self.usage or Usage(None, None)
        if prompt_tokens is not None or completion_tokens is not None:
            self.usage = Usage(
                _later(known.prompt_tokens, prompt_tokens),
                _later(known.completion_tokens, completion_tokens),
                _later(known.cached_tokens, details.cached),
                _later(known.reasoning_tokens, details.reasoning),
            )

    def note_read(self, frames: list[Frame], brought: int) -> None:
        """Count the frames of a read that brought so many events. Raises Failed beyond the limits."""
        self._remaining_frames -= len(frames)
        if self._remaining_frames < 0:
            raise Failed(f"The provider sent more than {MAX_FRAMES} events in one reply.")
        brought += self._fragments
        self._fragments = 0
        if brought < len(frames):
            empty_bytes = (len(frames) - brought) * EMPTY_FRAME_BYTES
            if not brought:  # else the frame that brought something may be the long one
                empty_bytes += sum([len(frame.data) for frame in frames])
            self._remaining_empty_bytes -= empty_bytes
            if self._remaining_empty_bytes < 0:
                raise Failed("The provider sent too many events without content.")

    def rest(self) -> list[Event]:
        """What was held back until the end: the last of the text, and where it refers to its sources."""
        found: list[Event] = []
        self.flush(found)
        return [*found, *self.sources.final()]

    def flush(self, found: list[Event]) -> None:
        """Append what was held back of the text."""
        self.text.close(found)

    def end(self) -> list[Event]:
        """The last events: files, tool calls, usage, finish. Raises EgressError if the reply is incomplete."""
        if self._has_invalid and not self._has_valid:
            raise error_of_no_reply(self._stray, self.secrets)
        if self.finish_reason is None and not self.is_done:
            raise Unreachable(ENDED_EARLY)
        self.calls = [call for call in self.calls if call.name or call.size]
        if self.finish_reason is None and not (self.has_brought or self.calls or self.media.count):
            raise error_of_no_reply(self._stray, self.secrets)
        reason = finish_reason(self.finish_reason or STOP)
        if self.calls and is_complete(reason):  # some servers report another good end
            reason = TOOL_CALLS
        calls = [call.complete() for call in self.calls]
        usage = [self.usage] if self.usage else []
        return [
            *self.media.end(has_text=self.text.length > 0),
            *calls,
            *self._state(),
            *usage,
            Finish(reason),
        ]

    def build_state(self) -> Mapping[str, Any] | None:
        """What the provider wants back with the reply, None for nothing. Raises StateTooLarge."""
        return None

    def _state(self) -> list[Event]:
        try:
            state = self.build_state()
        except StateTooLarge:
            state = {}
        return [] if state is None else [ProviderState(state)]

    def _count(self, size: int) -> None:
        """Count what a tool call brings, which becomes an event only at the end."""
        self._fragments += 1
        self._remaining_bytes -= size
        if self._remaining_bytes < 0:
            raise ReplyTooLarge


def _later(known: int | None, count: int | None) -> int | None:
    return count if count or known is None else known


def error_of_frame(data: str, secrets: Secrets) -> EgressError:
    """The error in a frame that is named `error`: an object, an object around it, or just text."""
    value = parse_json(data)
    return error_of_report(data if value is None else value, secrets)


def parts_of_frame(frame: Frame) -> list[Frame]:
    """The events in one that is no JSON because its server leaves blank lines out, or writes `data:` twice."""
    lines = [line.strip().removeprefix("data:").lstrip() for line in frame.data.split("\n")]
    parts = [Frame("", line) for line in lines if line]
    is_same = len(parts) == 1 and parts[0].data == frame.data
    return [] if is_same or not all(part.data[:1] in ("{", "[") for part in parts) else parts


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
    parser.flush(found)
    parser.note_events(found)
    return [*join_texts(found), *parser.sources.final(), *parser.end()]


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
                        parser.flush(found)
                        break
                if len(frames) > 1 or not found:  # one that brings something costs no more than the read
                    parser.note_read(frames, len(found))
            except (EgressError, ReplyTooLarge) as error:
                failure = error
            if found:
                if not parser.has_brought:
                    parser.note_events(found)
                yield join_texts(found)
            if failure is not None:
                raise failure
            if parser.is_done:
                break
    except (EgressError, ReplyTooLarge) as error:
        if parser.finish_reason is None or not isinstance(error, (Unreachable, TimedOut)):
            if rest := parser.rest():
                yield rest
            raise
        # else only the end marker is missing
    rest = parser.rest()
    parser.note_events(rest)
    try:
        last = parser.end()
    except EgressError:
        if rest:
            yield rest
        raise
    yield [*rest, *last]


def _usable_id(id: str) -> str:
    """The id of a call, or one of ours where there is none, or where no result could name it: some servers keep a
    signature in it, of any length."""
    if len(id) > MAX_CALL_TEXT:
        return f"call_{sha256(id.encode()).hexdigest()[:32]}"
    return id or f"call_{uuid4().hex}"
