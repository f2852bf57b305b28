"""Reads replies of Anthropic's Messages API, streamed or as one JSON object."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .. import stream_parser
from ..error_responses import error_of_report
from ..events import Event, Usage
from ..sse import Frame
from ..stream_parser import add_reasoning, add_text, error_of_frame, serialize_arguments
from ..untrusted_json import as_count, as_dict, as_text, items_of, parse_json
from .state import ReplyState

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def parse_stream(reads: Iterable[list[Frame]], *, key: str, reply_bytes: int) -> Iterator[list[Event]]:
    """The typed events of a streamed reply."""
    return stream_parser.parse_stream(AnthropicStreamParser(key, reply_bytes), reads)


def parse_json_reply(answer: Any, *, key: str, reply_bytes: int) -> list[Event]:
    """The typed events of a reply that came as one JSON object although a stream was requested."""
    return stream_parser.parse_json_reply(AnthropicStreamParser(key, reply_bytes), answer)


class AnthropicStreamParser(stream_parser.StreamParser):
    """Parses the events of the Messages API: content blocks and their deltas."""

    def __init__(self, key: str, reply_bytes: int) -> None:
        super().__init__(key, reply_bytes)
        self._state_of_reply = ReplyState()

    def build_state(self) -> Mapping[str, Any] | None:
        """See StreamParser."""
        return self._state_of_reply.build()

    def take(self, frame: Frame, found: list[Event]) -> None:
        """Append the events in a frame."""
        if frame.event == "error":
            raise error_of_frame(frame.data, self.key)
        event = parse_json(frame.data)
        is_valid = isinstance(event, dict) and isinstance(event.get("type"), str)
        self.note_frame(is_valid=is_valid)
        if not is_valid:
            if error := as_dict(event).get("error"):
                raise error_of_report(error, self.key)
            return
        kind = event["type"]
        if kind == "content_block_delta":
            self._take_delta(event.get("index"), as_dict(event.get("delta")), found)
        elif kind == "content_block_start":
            self._take_block(event.get("index"), as_dict(event.get("content_block")), found)
        elif kind == "message_start":
            usage = as_dict(as_dict(event.get("message")).get("usage"))
            # `output_tokens` counts only the beginning here; for a truncated reply it would remain the final figure
            self._take_usage({**usage, "output_tokens": None})
            if self.usage:
                found.append(self.usage)
        elif kind == "message_delta":
            self._take_stop(as_dict(event.get("delta")).get("stop_reason"))
            self._take_usage(as_dict(event.get("usage")))
        elif kind == "content_block_stop":
            self._state_of_reply.end_block(event.get("index"))
        elif kind == "message_stop":
            self.is_done = True
        elif kind == "error":
            raise error_of_report(event.get("error"), self.key)

    def take_json(self, answer: Any, found: list[Event]) -> None:
        """Append the events of a whole message."""
        if isinstance(answer, list) and len(answer) == 1:  # Gemini's errors
            answer = answer[0]
        fields = as_dict(answer)
        if error := fields.get("error"):
            raise error_of_report(error, self.key)
        is_valid = isinstance(fields.get("content"), list)
        self.note_frame(is_valid=is_valid)
        if not is_valid:
            return
        for index, block in enumerate(items_of(fields["content"])):
            self._take_block(index, as_dict(block), found)
            self._state_of_reply.end_block(index)
        self._take_stop(fields.get("stop_reason"))
        self._take_usage(as_dict(fields.get("usage")))

    def _take_block(self, index: object, block: dict[str, Any], found: list[Event]) -> None:
        """Take the start of a block in a stream, or a whole block."""
        kind = block.get("type")
        self._state_of_reply.take_block(index, block)
        if kind == "text":
            add_text(found, as_text(block.get("text")))
        elif kind == "thinking":
            add_reasoning(found, as_text(block.get("thinking")))
        elif kind == "tool_use":
            call = self.begin_call(as_text(block.get("id")), as_text(block.get("name")))
            self.call_at[index if isinstance(index, int) else None] = call
            if arguments := block.get("input"):  # empty in a stream, where it follows in fragments
                self.add_arguments(call, serialize_arguments(arguments))

    def _take_delta(self, index: object, delta: dict[str, Any], found: list[Event]) -> None:
        kind = delta.get("type")
        if kind == "text_delta":
            text = as_text(delta.get("text"))
            add_text(found, text)
            self._state_of_reply.texts.append(text)
        elif kind == "thinking_delta":
            text = as_text(delta.get("thinking"))
            add_reasoning(found, text)
            self._state_of_reply.texts.append(text)
        else:
            self._state_of_reply.take_delta(index, delta)
        if kind == "input_json_delta":
            call = self.call_at.get(index if isinstance(index, int) else None)
            if call is not None:
                self.add_arguments(call, as_text(delta.get("partial_json")))

    def _take_stop(self, reason: object) -> None:
        if isinstance(reason, str) and reason:
            self.finish_reason = FINISH_REASONS.get(reason, reason)

    def _take_usage(self, usage: dict[str, Any]) -> None:
        """Merge these counts into the earlier ones. Tokens read from or written to the cache are prompt tokens, too."""
        known = self.usage or Usage(None, None)
        prompt = as_count(usage.get("input_tokens"))
        if prompt is not None:
            prompt += as_count(usage.get("cache_creation_input_tokens")) or 0
            prompt += as_count(usage.get("cache_read_input_tokens")) or 0
            prompt = as_count(prompt)  # the sum may exceed the range
        completion = as_count(usage.get("output_tokens"))
        if prompt is not None or completion is not None:
            self.usage = Usage(
                known.prompt_tokens if prompt is None else prompt,
                known.completion_tokens if completion is None else completion,
            )
