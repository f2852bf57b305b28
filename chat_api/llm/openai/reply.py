"""Reads replies of OpenAI's chat completions, streamed or as one JSON object, with the deviations of other servers."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .. import stream_parser
from ..base64_content import LongRuns
from ..error_responses import error_of_report
from ..events import Event, ReasoningDelta, TextDelta
from ..redaction import Secrets
from ..reply_media import AUDIO, IMAGE, VIDEO, may_hold_files, split_text
from ..sources import FIELDS as SOURCE_FIELDS
from ..sse import Frame
from ..stream_parser import ERROR_EVENTS, error_of_frame, parts_of_frame
from ..token_details import details_of
from ..untrusted_json import as_count, as_dict, as_text, items_of, parse_json
from .state import MESSAGE_FIELDS, ReplyState
from .tool_calls import ToolCallReader

DONE = ("[DONE]", '"[DONE]"', "'[DONE]'", "[done]")
# fields of a chunk or a choice that are looked at besides `choices`, `usage`, `delta` and `finish_reason`
OTHER_FIELDS = SOURCE_FIELDS | {"error", "x_groq", "message", "text", "usageMetadata"}
NO_REASONS = ("null", "none")  # sent as a finish reason before there is one
PROMPT_TOKENS = ("prompt_tokens", "input_tokens", "promptTokenCount", "inputTokens")
COMPLETION_TOKENS = ("completion_tokens", "output_tokens", "candidatesTokenCount", "outputTokens")
CACHE_TOKENS = ("cache_creation_input_tokens", "cache_read_input_tokens")
# where reasoning comes as text, or as parts; only the first of them counts, as many servers send it under two names
REASONING = (
    "reasoning_content",
    "reasoning",
    "reasoning_text",
    "thinking",
    "reasoning_details",
    "thinking_blocks",
)
PARTS_OF_REASONING = ("thinking", "reasoning", "reasoning.text", "reasoning.summary", "thought")
# types of parts of a content, and what is a file in a message beside it
MEDIA = {
    "image_url": IMAGE, "image": IMAGE, "output_image": IMAGE, "input_image": IMAGE, "inline_data": IMAGE,
    "audio": AUDIO, "input_audio": AUDIO, "output_audio": AUDIO, "audio_url": AUDIO,
    "video_url": VIDEO, "video": VIDEO,
}  # fmt: skip
INLINE_DATA = ("inline_data", "inlineData")
LISTS_OF_MEDIA = {"images": IMAGE, "videos": VIDEO}
FIELDS_OF_MEDIA = {"image": IMAGE, "video": VIDEO, **dict.fromkeys(INLINE_DATA, IMAGE)}
OTHER_PARTS = SOURCE_FIELDS | {"function_call", "refusal", "audio", *LISTS_OF_MEDIA, *FIELDS_OF_MEDIA}
PLAIN_PARTS = {"role", "content"}
PARTS_OF_THINKING = PLAIN_PARTS | {"reasoning_content", "reasoning"}
LONG_TEXT = 100  # characters of a part of the text that is looked at more closely
SURE_LENGTH = 8  # from here on, a text that begins with all that came before repeats it: that is no chance

Piece = str | tuple[str, object]
"""A text of a content, or a file: its kind, and what it came as."""


def parse_stream(
    reads: Iterable[list[Frame]], *, secrets: Secrets, reply_bytes: int, runs: LongRuns | None = None
) -> Iterator[list[Event]]:
    """The typed events of a streamed reply."""
    return stream_parser.parse_stream(OpenAIStreamParser(secrets, reply_bytes, runs), reads)


def parse_json_reply(
    answer: Any, *, secrets: Secrets, reply_bytes: int, runs: LongRuns | None = None
) -> list[Event]:
    """The typed events of a reply that came as one JSON object although a stream was requested."""
    return stream_parser.parse_json_reply(OpenAIStreamParser(secrets, reply_bytes, runs), answer)


class OpenAIStreamParser(stream_parser.StreamParser):
    """Parses a stream of `chat.completion.chunk` objects."""

    def __init__(self, secrets: Secrets, reply_bytes: int, runs: LongRuns | None = None) -> None:
        super().__init__(secrets, reply_bytes, runs)
        self._tool_calls = ToolCallReader(self)
        self._state_of_reply = ReplyState()
        self._index: int | None = None  # of the choice that is read, of several alternatives
        # the fields of the last chunk and of its choice, if there is nothing in them that has to be looked at
        self._plain_chunk: tuple[str, ...] | None = None
        self._plain_choice: tuple[str, ...] | None = None
        self._plain_delta: tuple[str, ...] | None = None
        self._texts = 0  # parts of text that came otherwise than on the short way
        self._is_cumulative = False  # each delta has all of the text so far
        self._in_doubt = ""  # a delta that may be the second one of such a stream
        self._message_reasoning = ""
        self._has_delta = self._has_reasoning = self._has_refused = self._is_transcribed = False

    def build_state(self) -> Mapping[str, Any] | None:
        """See StreamParser."""
        return self._state_of_reply.build(self.calls)

    def take(self, frame: Frame, found: list[Event]) -> None:
        """Append the events in a frame."""
        event, data = frame
        if event in ERROR_EVENTS:
            raise error_of_frame(data, self.secrets)
        chunk = parse_json(data)
        if self._take_plain(chunk, found):
            return
        if data.strip() in DONE:  # some gateways send it as a JSON string
            self.is_done = True
        elif chunk is None and (parts := parts_of_frame(frame)):
            for part in parts:
                self.take(part, found)
        elif isinstance(chunk, (dict, list)):
            self._take_chunk(chunk, found)
        else:
            self.note_unparsed(data)

    def _take_plain(self, chunk: Any, found: list[Event]) -> bool:
        """Take most of what comes on a short way: a text, reasoning or arguments, and nothing else, in a chunk like the
        one before. False where there may be more in it.
        """
        try:
            (choice,) = chunk["choices"]
            if (
                tuple(chunk) == self._plain_chunk
                and tuple(choice) == self._plain_choice
                and not choice.get("finish_reason")
                and not chunk.get("usage")
                and not choice.get("index")
            ):
                delta, reply = choice["delta"], self.text
                text = delta.get("content")
                if text:
                    if (
                        type(text) is str
                        and reply.is_plain
                        and len(text) < LONG_TEXT
                        and ("<" not in text or not reply.watches)
                        and (len(delta) == 1 or tuple(delta) == self._plain_delta or _is_plain_delta(delta))
                    ):
                        reply.passed += len(text)
                        reply.last = text
                        found.append(TextDelta(text))
                        return True
                elif len(delta) == 1 and "tool_calls" in delta:
                    (fragment,) = delta["tool_calls"]
                    if (call := self._tool_calls.take_more(fragment)) is not None:
                        self._state_of_reply.take_call(call, fragment)
                        return True
                elif self._has_reasoning and delta.keys() <= PARTS_OF_THINKING:
                    text = delta.get("reasoning_content") or delta.get("reasoning")
                    if type(text) is str:
                        if text:
                            found.append(ReasoningDelta(text))
                        self._state_of_reply.take_message(delta)
                        return True
        except (KeyError, TypeError, ValueError, AttributeError):
            pass
        return False

    def take_json(self, answer: Any, found: list[Event]) -> None:
        """Append the events of a whole answer: of the first choice only."""
        if isinstance(answer, dict):
            choices = [choice for choice in items_of(answer.get("choices")) if isinstance(choice, dict)]
            first = min(choices, key=_index_of, default=None)
            if first is not None:
                answer = {**answer, "choices": [first]}
        for chunk in items_of(answer) if isinstance(answer, list) and len(answer) > 1 else [answer]:
            self._take_chunk(chunk, found)

    def flush(self, found: list[Event]) -> None:
        """See StreamParser."""
        doubtful, self._in_doubt = self._in_doubt, ""
        self.text.feed(doubtful, found)
        super().flush(found)

    def _take_chunk(self, chunk: Any, found: list[Event]) -> None:
        if isinstance(chunk, list) and len(chunk) == 1:  # Gemini's errors
            chunk = chunk[0]
        if not isinstance(chunk, dict):
            self.note_frame(is_valid=False)
            return
        if chunk.get("error") or chunk.get("object") == "error":
            raise error_of_report(chunk, self.secrets)
        if usage := chunk.get("usage"):
            self._take_usage(as_dict(usage))
        choices = [choice for choice in items_of(chunk.get("choices")) if isinstance(choice, dict)]
        if choices or "usage" not in chunk:
            self.note_frame(is_valid=bool(choices))
        if not choices:
            self.note_stray(chunk)
        elif self._index is None:
            self._index = min(map(_index_of, choices))
        for choice in choices:
            if _index_of(choice) == self._index:
                self._take_choice(choice, found)
        is_plain = OTHER_FIELDS.isdisjoint(chunk)
        if not is_plain:
            self._take_usage(as_dict(as_dict(chunk.get("x_groq")).get("usage")))
            self._take_usage(as_dict(chunk.get("usageMetadata")))
            self.sources.take(chunk, found)
        self._plain_chunk = tuple(chunk) if is_plain and not self._is_cumulative else None

    def _take_choice(self, choice: dict[str, Any], found: list[Event]) -> None:
        reason = choice.get("finish_reason")
        if not isinstance(reason, str) or reason.lower() in NO_REASONS:
            reason = ""
        if delta := choice.get("delta"):
            self._take_delta(as_dict(delta), found, is_last=bool(reason))
            self._has_delta = self._has_delta or self.text.received > 0
        is_plain = OTHER_FIELDS.isdisjoint(choice) and "usage" not in choice
        if not is_plain:
            self._take_message(as_dict(choice.get("message")), found)
            self._take_text(as_text(choice.get("text")), found)  # of the older completions
            self._take_usage(as_dict(choice.get("usage")))
            self.sources.take(choice, found)
            if error := choice.get("error"):
                raise error_of_report(error, self.secrets)
        if reason:
            self.finish_reason = reason
        self._plain_choice = tuple(choice) if is_plain and self._index == 0 else None

    def _take_delta(self, delta: dict[str, Any], found: list[Event], *, is_last: bool = False) -> None:
        """Take a part of the message, or all of it."""
        if reasoning := _reasoning_of(delta):
            self._take_reasoning(reasoning, found)
        if content := delta.get("content"):
            self._take_content(content, found, is_thought=_is_thought(delta), is_last=is_last)
        if calls := delta.get("tool_calls"):
            for fragment in items_of(calls):
                self._take_call(as_dict(fragment))
        if not MESSAGE_FIELDS.isdisjoint(delta):
            self._state_of_reply.take_message(delta)
        if delta.keys() <= PLAIN_PARTS:
            self._plain_delta = tuple(delta)
        elif not OTHER_PARTS.isdisjoint(delta):
            self._take_others(delta, found)

    def _take_content(self, content: object, found: list[Event], *, is_thought: bool, is_last: bool) -> None:
        """Take a text, or a list of parts: texts, and files between them."""
        pieces = self._pieces_of(content, found)
        if any(isinstance(piece, str) and may_hold_files(piece) for piece in pieces):
            pieces = [cut for piece in pieces for cut in _without_files(piece)]
        text = "".join(piece for piece in pieces if isinstance(piece, str))
        if is_thought and not self.text.is_in_tags and "<" not in text:
            self._take_reasoning(text, found)
            pieces = [piece for piece in pieces if not isinstance(piece, str)]
        elif is_last and self._repeats_all(text):
            pieces = [piece for piece in pieces if not isinstance(piece, str)]
        elif all(isinstance(piece, str) for piece in pieces):
            pieces = [text]
        for piece in pieces:
            if isinstance(piece, str):
                self._take_text(piece, found)
            else:
                self._take_media(*piece, found)

    def _take_message(self, message: dict[str, Any], found: list[Event]) -> None:
        """Take a message beside the delta or in its stead: it may repeat all that came, or be a part like a delta."""
        if not (self.text.received or self._has_reasoning or self.calls or self.media.count):
            self._take_delta(message, found)
            self._message_reasoning = _reasoning_of(message)
            return
        text, received = as_text(message.get("content")), self.text.received
        if received and len(text) >= received and text.startswith(self.text.head):
            self._take_text(text[received:], found)
        elif not self._has_delta:
            self._take_text(text, found)
        reasoning = _reasoning_of(message)
        if not self._has_reasoning or self._message_reasoning:
            new = reasoning.removeprefix(self._message_reasoning)
            self._message_reasoning = reasoning if new != reasoning else self._message_reasoning + reasoning
            self._take_reasoning(new, found)
        for call in items_of(message.get("tool_calls")):
            self._take_call(as_dict(call), repeats=True)
        if not MESSAGE_FIELDS.isdisjoint(message):
            self._state_of_reply.take_rest(message)
        rest = {name: value for name, value in message.items() if name in SOURCE_FIELDS}
        if not self.media.count:
            rest |= {name: message.get(name) for name in (*LISTS_OF_MEDIA, *FIELDS_OF_MEDIA)}
        if not received:
            rest |= {"refusal": message.get("refusal")}
        if not self.media.has_audio:
            rest |= {"audio": message.get("audio")}
        self._take_others(rest, found)

    def _take_call(self, fragment: dict[str, Any], *, repeats: bool = False) -> None:
        call = self._tool_calls.take(fragment, repeats=repeats)
        if call is not None:
            self._state_of_reply.take_call(call, fragment)

    def _take_others(self, fields: dict[str, Any], found: list[Event]) -> None:
        """Take what few servers send."""
        if call := as_dict(fields.get("function_call")):  # as it was before there were several
            self._take_call({"index": -1, "function": call})
        if refusal := as_text(fields.get("refusal")):
            if not self._has_refused:
                self.text.end_paragraph()
            self._has_refused = True
            self.text.feed(refusal, found)
        if audio := as_dict(fields.get("audio")):
            self._take_audio(audio, found)
        for name, kind in LISTS_OF_MEDIA.items():
            for item in items_of(fields.get(name)):
                self._take_media(kind, item, found)
        for name, kind in FIELDS_OF_MEDIA.items():
            if item := fields.get(name):
                self._take_media(kind, item, found)
        if not SOURCE_FIELDS.isdisjoint(fields):
            self.sources.take(fields, found, shift=self.text.received - self.text.length)

    def _take_text(self, text: str, found: list[Event]) -> None:
        """Take the next text, without what it may repeat."""
        if not text:
            return
        self._texts += 1
        received = self.text.received
        if self._in_doubt:
            self._is_cumulative = text.startswith(self._in_doubt)
            if not self._is_cumulative:
                self.text.feed(self._in_doubt, found)
            self._in_doubt = ""
        elif self._texts == 2 and received < len(text) and text.startswith(self.text.head):
            if received < SURE_LENGTH:
                self._in_doubt = text
                return
            self._is_cumulative = True
        if self._is_cumulative and text.startswith(self.text.head):
            text = text[received:]
        self.text.feed(text, found)

    def _repeats_all(self, text: str) -> bool:
        """Whether this text is all that came before, which some servers send once more at the end."""
        is_equal = len(text) == self.text.received and text.startswith(self.text.head)
        return is_equal and (self._texts > 1 or len(text) >= SURE_LENGTH)

    def _take_reasoning(self, text: str, found: list[Event]) -> None:
        if text:
            self._has_reasoning = True
            self.text.expect_no_tags()
            found.append(ReasoningDelta(text))

    def _pieces_of(self, content: object, found: list[Event]) -> list[Piece]:
        """A content, which may come in parts, as texts and files. Reasoning goes to `found`."""
        if isinstance(content, str):
            return [content]
        pieces: list[Piece] = []
        for part in items_of(content):
            fields = as_dict(part)
            kind = fields.get("type")
            if kind in PARTS_OF_REASONING:
                self._take_reasoning(_text_of_reasoning([part]), found)
            elif kind == "refusal":
                pieces.append(as_text(fields.get("refusal")))
            elif kind in MEDIA:
                pieces.append((MEDIA[kind], part))
            elif any(name in fields for name in INLINE_DATA):
                pieces.append((IMAGE, part))
            else:
                pieces.append(as_text([part]))
        return pieces

    def _take_media(self, kind: str, value: object, found: list[Event]) -> None:
        """Take a picture or the like. What follows it is another paragraph of the text."""
        self.text.end_paragraph()
        self.media.take(kind, value, found)

    def _take_audio(self, audio: dict[str, Any], found: list[Event]) -> None:
        """Take a part of a recording. What it says is the text of the reply, unless that has a text beside it."""
        transcript = as_text(audio.get("transcript"))
        if transcript and (self._is_transcribed or not self.text.received):
            self._is_transcribed = True
            self.text.feed(transcript, found)
        self.media.take_audio(audio, found)

    def _take_usage(self, usage: dict[str, Any]) -> None:
        """Take counts under the names that they have anywhere. Anthropic counts tokens of the cache apart."""
        prompt, completion = _count(usage, PROMPT_TOKENS), _count(usage, COMPLETION_TOKENS)
        if prompt is not None and "input_tokens" in usage:
            prompt = as_count(prompt + sum(as_count(usage.get(name)) or 0 for name in CACHE_TOKENS))
        if prompt is not None and completion is None and (total := as_count(usage.get("total_tokens"))):
            completion = as_count(total - prompt)
        self.merge_usage(prompt, completion, details_of(usage))


def _without_files(piece: Piece) -> list[Piece]:
    """A piece of a content, with the files that a text holds apart from it."""
    if not isinstance(piece, str):
        return [piece]
    return [(IMAGE, text) if is_file else text for text, is_file in split_text(piece)]


def _is_plain_delta(delta: dict[str, Any]) -> bool:
    """Whether a delta has nothing but its text and the role."""
    return not any(map(delta.get, delta.keys() - PLAIN_PARTS))


def _index_of(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _count(usage: dict[str, Any], names: tuple[str, ...]) -> int | None:
    return next((count for name in names if (count := as_count(usage.get(name))) is not None), None)


def _is_thought(delta: dict[str, Any]) -> bool:
    """Whether Gemini says that the content is a part of its reasoning."""
    return "extra_content" in delta and bool(
        as_dict(as_dict(delta["extra_content"]).get("google")).get("thought")
    )


def _reasoning_of(delta: dict[str, Any]) -> str:
    """The reasoning in a delta or message, under the first name that has some: servers send it under two at once."""
    for name in REASONING:
        if value := delta.get(name):
            text = value if isinstance(value, str) else _text_of_reasoning(value)
            if text:
                return text
    return ""


def _text_of_reasoning(value: object) -> str:
    """The text of reasoning that comes as an object or as a list of parts; what is encrypted has none."""
    text = ""
    for part in items_of(value) if isinstance(value, list) else [value]:
        if isinstance(part, dict):
            inner = (part.get(name) for name in ("text", "summary", "thinking", "content"))
            text += as_text(next(filter(None, inner), ""))
        else:
            text += as_text(part)
    return text
