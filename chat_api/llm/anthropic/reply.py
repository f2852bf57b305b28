"""Reads replies of Anthropic's Messages API, streamed or as one JSON object."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .. import stream_parser
from ..base64_content import LongRuns
from ..error_responses import error_of_report
from ..events import Event, ReasoningDelta, TextDelta
from ..redaction import Secrets
from ..reply_media import KINDS
from ..sources import MAX_SOURCES
from ..sse import Frame
from ..stream_parser import ERROR_EVENTS, error_of_frame, parts_of_frame, serialize_arguments
from ..token_details import details_of
from ..untrusted_json import as_count, as_dict, as_text, items_of, parse_json
from .state import ReplyState

PROMPT_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def parse_stream(
    reads: Iterable[list[Frame]], *, secrets: Secrets, reply_bytes: int, runs: LongRuns | None = None
) -> Iterator[list[Event]]:
    """The typed events of a streamed reply."""
    return stream_parser.parse_stream(AnthropicStreamParser(secrets, reply_bytes, runs), reads)


def parse_json_reply(
    answer: Any, *, secrets: Secrets, reply_bytes: int, runs: LongRuns | None = None
) -> list[Event]:
    """The typed events of a reply that came as one JSON object although a stream was requested."""
    return stream_parser.parse_json_reply(AnthropicStreamParser(secrets, reply_bytes, runs), answer)


class AnthropicStreamParser(stream_parser.StreamParser):
    """Parses the events of the Messages API: content blocks and their deltas."""

    def __init__(self, secrets: Secrets, reply_bytes: int, runs: LongRuns | None = None) -> None:
        super().__init__(secrets, reply_bytes, runs)
        self._state_of_reply = ReplyState()
        self._prompt_tokens: dict[str, int] = {}
        self._block_begins_at = 0  # of text, in the text of the reply
        self._cited: list[tuple[object, object]] = []  # URLs and titles of what that block refers to
        self._begun_with_arguments: set[int] = (
            set()
        )  # calls whose arguments came with the start of their block

    def build_state(self) -> Mapping[str, Any] | None:
        """See StreamParser."""
        return self._state_of_reply.build()

    def take(self, frame: Frame, found: list[Event]) -> None:
        """Append the events in a frame."""
        name, data = frame
        if name in ERROR_EVENTS:
            raise error_of_frame(data, self.secrets)
        event = parse_json(data)
        try:  # the short way of most frames
            delta = event["delta"]
            text, reply = delta["text"], self.text
            if (
                reply.is_plain
                and event["type"] == "content_block_delta"
                and delta["type"] == "text_delta"
                and type(text) is str
                and ("<" not in text or not reply.watches)
            ):
                if text:
                    reply.passed += len(text)
                    reply.last = text
                    self._state_of_reply.texts.append(text)
                    found.append(TextDelta(text))
                return
        except (KeyError, TypeError):
            pass
        if data.strip() == "[DONE]":  # added by gateways
            self.is_done = True
            return
        if event is None and (parts := parts_of_frame(frame)):
            for part in parts:
                self.take(part, found)
            return
        if not isinstance(event, dict):
            self.note_unparsed(data)
            return
        if name and "type" not in event:
            event["type"] = name
        is_valid = isinstance(event.get("type"), str)
        self.note_frame(is_valid=is_valid)
        if not is_valid:
            self.note_stray(event)
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
            self._take_stop(as_dict(event.get("delta")), found)
            self._take_usage(as_dict(event.get("usage")))
        elif kind == "content_block_stop":
            self._state_of_reply.end_block(event.get("index"))
            self._end_block(found)
        elif kind == "message_stop":
            self._take_usage(as_dict(event.get("usage")))
            self.is_done = True
        elif kind == "error":
            raise error_of_report(event.get("error") or event, self.secrets)

    def take_json(self, answer: Any, found: list[Event]) -> None:
        """Append the events of a whole message."""
        if isinstance(answer, list) and len(answer) == 1:  # Gemini's errors
            answer = answer[0]
        fields = as_dict(answer)
        if fields.get("error"):
            raise error_of_report(fields, self.secrets)
        is_valid = isinstance(fields.get("content"), list)
        self.note_frame(is_valid=is_valid)
        if not is_valid:
            self.note_stray(answer)
            return
        for index, block in enumerate(items_of(fields["content"])):
            self._take_block(index, as_dict(block), found)
            self._state_of_reply.end_block(index)
            self._end_block(found)
        self._take_stop(fields, found)
        self._take_usage(as_dict(fields.get("usage")))

    def _take_block(self, index: object, block: dict[str, Any], found: list[Event]) -> None:
        """Take the start of a block in a stream, or a whole block."""
        kind = block.get("type")
        self._state_of_reply.take_block(index, block)
        self._cited = []
        if kind == "text":
            self._block_begins_at = self.text.length
            self.text.feed(as_text(block.get("text")), found)
            for citation in items_of(block.get("citations")):
                self._take_citation(as_dict(citation), found)
            return
        self.text.end_paragraph()  # what follows is no part of the sentence
        if kind == "thinking":
            self._take_thinking(block.get("thinking"), found)
        elif kind == "tool_use":
            call = self.begin_call(as_text(block.get("id")), as_text(block.get("name")))
            self.call_at[index if isinstance(index, int) else None] = call
            if arguments := block.get("input"):  # empty in a stream, where it follows in fragments
                self.add_arguments(call, serialize_arguments(arguments))
                self._begun_with_arguments.add(id(call))
        elif kind in KINDS:
            self.media.take(kind, block, found)

    def _take_delta(self, index: object, delta: dict[str, Any], found: list[Event]) -> None:
        kind = delta.get("type")
        if kind == "text_delta":
            text = as_text(delta.get("text"))
            self.text.feed(text, found)
            self._state_of_reply.texts.append(text)
        elif kind == "thinking_delta":
            text = as_text(delta.get("thinking"))
            self._take_thinking(text, found)
            self._state_of_reply.texts.append(text)
        else:
            self._state_of_reply.take_delta(index, delta)
        if kind == "input_json_delta":
            call = self.call_at.get(index if isinstance(index, int) else None)
            fragment = as_text(delta.get("partial_json"))
            if call is not None and fragment:
                if id(call) in self._begun_with_arguments:  # they come once more
                    self._begun_with_arguments.discard(id(call))
                    call.replace_arguments()
                self.add_arguments(call, fragment)
        elif kind == "citations_delta":
            self._take_citation(as_dict(delta.get("citation")), found)

    def _take_thinking(self, value: object, found: list[Event]) -> None:
        if text := as_text(value):
            self.text.expect_no_tags()
            found.append(ReasoningDelta(text))

    def _take_citation(self, citation: dict[str, Any], found: list[Event]) -> None:
        """Take a source of the block's text. Where that ends is known at the end of the block."""
        url, title = citation.get("url") or citation.get("source"), citation.get("title")
        self.sources.add(url, title, found)
        if len(self._cited) < MAX_SOURCES:
            self._cited.append((url, title))

    def _end_block(self, found: list[Event]) -> None:
        """Let the sources of a block of text refer to all of it."""
        place = self._block_begins_at, self.text.length
        for url, title in self._cited:
            self.sources.add(url, title, found, place=place)
        self._cited = []

    def _take_stop(self, fields: dict[str, Any], found: list[Event]) -> None:
        reason = fields.get("stop_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = reason
        if explanation := as_text(as_dict(fields.get("stop_details")).get("explanation")):
            self.text.end_paragraph()
            self.text.feed(explanation, found)

    def _take_usage(self, usage: dict[str, Any]) -> None:
        """Take counts, each in the place of an earlier one. Tokens read from or written to the cache are prompt tokens,
        too."""
        for name in PROMPT_TOKENS:
            if count := as_count(usage.get(name)):
                self._prompt_tokens[name] = count
        prompt = as_count(sum(self._prompt_tokens.values()))  # the sum may exceed the range
        if not self._prompt_tokens:
            prompt = as_count(usage.get("input_tokens"))
        self.merge_usage(prompt, as_count(usage.get("output_tokens")), details_of(usage))
