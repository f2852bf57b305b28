"""Reads replies of OpenAI's chat completions, streamed or as one JSON object."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .. import stream_parser
from ..error_responses import error_of_report
from ..events import Event, Usage
from ..sse import Frame
from ..stream_parser import PartialToolCall, add_reasoning, add_text, error_of_frame, serialize_arguments
from ..untrusted_json import as_count, as_dict, as_text, items_of, parse_json
from .state import MESSAGE_FIELDS, ReplyState


def parse_stream(reads: Iterable[list[Frame]], *, key: str, reply_bytes: int) -> Iterator[list[Event]]:
    """The typed events of a streamed reply."""
    return stream_parser.parse_stream(OpenAIStreamParser(key, reply_bytes), reads)


def parse_json_reply(answer: Any, *, key: str, reply_bytes: int) -> list[Event]:
    """The typed events of a reply that came as one JSON object although a stream was requested."""
    return stream_parser.parse_json_reply(OpenAIStreamParser(key, reply_bytes), answer)


class OpenAIStreamParser(stream_parser.StreamParser):
    """Parses a stream of `chat.completion.chunk` objects."""

    def __init__(self, key: str, reply_bytes: int) -> None:
        super().__init__(key, reply_bytes)
        self._state_of_reply = ReplyState()

    def build_state(self) -> Mapping[str, Any] | None:
        """See StreamParser."""
        return self._state_of_reply.build(self.calls)

    def take(self, frame: Frame, found: list[Event]) -> None:
        """Append the events in a frame."""
        event, data = frame
        if event == "error":
            raise error_of_frame(data, self.key)
        if data[:1] != "{" and data.strip(' "') == "[DONE]":  # some gateways send it as a JSON string
            self.is_done = True
        else:
            self.take_json(parse_json(data), found)

    def take_json(self, chunk: Any, found: list[Event]) -> None:
        """Append the events of one object."""
        if isinstance(chunk, list) and len(chunk) == 1:  # Gemini's errors
            chunk = chunk[0]
        if isinstance(chunk, dict):
            error = chunk if chunk.get("object") == "error" else chunk.get("error")
            if error:
                raise error_of_report(error, self.key)
        is_valid = isinstance(chunk, dict) and ("choices" in chunk or "usage" in chunk)
        self.note_frame(is_valid=is_valid)
        if not is_valid:
            return
        if (usage := chunk.get("usage")) and isinstance(usage, dict):
            self.usage = Usage(as_count(usage.get("prompt_tokens")), as_count(usage.get("completion_tokens")))
        for choice in items_of(chunk.get("choices")):
            if isinstance(choice, dict) and not choice.get("index"):  # the first of several alternatives
                self._take_choice(choice, found)

    def _take_choice(self, choice: dict[str, Any], found: list[Event]) -> None:
        delta = as_dict(choice.get("delta") or choice.get("message"))
        if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
            add_reasoning(found, as_text(reasoning))
            self._state_of_reply.take_message(delta)
        elif not MESSAGE_FIELDS.isdisjoint(delta):
            self._state_of_reply.take_message(delta)
        if content := delta.get("content"):
            add_text(found, content if isinstance(content, str) else _text(content, found))
        elif refusal := delta.get("refusal"):
            add_text(found, as_text(refusal))
        if calls := delta.get("tool_calls"):
            for fragment in items_of(calls):
                self._take_call(as_dict(fragment))
        if (reason := choice.get("finish_reason")) and isinstance(reason, str):
            self.finish_reason = reason

    def _take_call(self, fragment: dict[str, Any]) -> None:
        function = as_dict(fragment.get("function"))
        id, name = as_text(fragment.get("id")), as_text(function.get("name"))
        index = fragment.get("index")
        call = self._call_of_fragment(index if isinstance(index, int) else None, id, name)
        self.name_call(call, id, name)
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            arguments = serialize_arguments(arguments)
        self.add_arguments(call, as_text(arguments))
        self._state_of_reply.take_call(call, fragment)

    def _call_of_fragment(self, index: int | None, id: str, name: str) -> PartialToolCall:
        """The call that a fragment continues, or a new one: some servers give every call the same index, or none."""
        call = self.call_at.get(index)
        if index is None and call is None and self.calls and not name:
            call = self.calls[-1]
        is_another = call is not None and name and ((id and call.id and id != call.id) or index is None)
        if call is None or is_another:
            call = self.call_at[index] = self.begin_call(id, name)
        return call


def _text(content: object, found: list[Event]) -> str:
    """The text of a delta that has several parts; reasoning parts are added to `found`."""
    text = ""
    for part in items_of(content):
        if isinstance(part, dict) and part.get("type") in ("thinking", "reasoning"):
            add_reasoning(found, as_text(part.get("thinking") or part.get("text")))
        else:
            text += as_text([part])
    return text
