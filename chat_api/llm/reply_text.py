"""The text of a reply while it arrives, and the reasoning that some models write into it between tags.

Servers without a parser for a model's reasoning send it as text: `<think>…</think>` at its beginning, cut anywhere into
chunks. Where the template of the prompt has opened the tag already, only the closing one appears.
"""

import re

from .events import Event, ReasoningDelta, TextDelta, TextWasReasoning

# how models spell the tags; those of XML in any case
_NAMES = (
    "think",
    "thinking",
    "thought",
    "thoughts",
    "reason",
    "reasoning",
    "seed:think",
    "longcat_think",
    "antthinking",
)
TAGS = {
    **{f"<{name}>": f"</{name}>" for name in _NAMES},
    "[think]": "[/think]",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|start_thinking|>": "<|end_thinking|>",
    "<|channel>thought": "<channel|>",
    "<|channel|>analysis<|message|>": "<|end|>",
}  # fmt: skip
# what may come before the text after the reasoning, and is none of it
_BETWEEN = (
    *TAGS.values(),
    "<|start_response|>",
    "<|start|>assistant<|channel|>final<|message|>",
    "<|channel|>final<|message|>",
)
_BEGINNINGS = (*TAGS, *_BETWEEN)
_CLOSING = {tag: re.compile(re.escape(tag), re.IGNORECASE) for tag in TAGS.values()}
# without an opening tag only these are believed; one that opens later is part of the text, and so is what closes it
_LONE_TAGS = ("</think>", "</thinking>", "</thought>", "</seed:think>")
_LONE = re.compile("|".join(map(re.escape, _LONE_TAGS)), re.IGNORECASE)
_OPENING_TAGS = tuple(tag.replace("/", "") for tag in _LONE_TAGS)
_OPENING = re.compile("|".join(map(re.escape, _OPENING_TAGS)), re.IGNORECASE)
_WATCHED = (*_LONE_TAGS, *_OPENING_TAGS)
# what has to be looked at more closely: a watched tag, or the beginning of one at the end of a text
_CANDIDATE = re.compile("</?(?:thi|tho|see|t?h?$|s?e?$)", re.IGNORECASE)
_QUOTES = frozenset("`'\"“”‘’«»")
_CONTEXT = 10  # characters before a tag that are looked at
_SENTENCE_ENDS = ("", "\n", *".!?:;)…。！？")

_LONGEST = max(map(len, _BEGINNINGS))

HEAD_LENGTH = 32  # how much of the text is remembered, to recognize what repeats it
MAX_HELD = 1000  # of white space

_START, _REASONING, _TEXT = "start", "reasoning", "text"


class ReplyText:
    """Takes the text as it comes, and appends TextDelta and ReasoningDelta to the events of a read.

    While `is_plain`, a text without "<" (any text, unless it `watches`) only has to be appended, counted in `passed`
    and remembered as `last`; parsers do that themselves, for speed.
    """

    __slots__ = (
        "_begins", "_breaks", "_closing", "_closing_tag", "_follows_reasoning", "_held", "_length", "_received",
        "_state", "head", "is_plain", "last", "passed", "watches",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_plain = False
        self.passed = 0  # characters that a parser has appended itself
        self.head = ""  # the first characters that came
        self.last = ""  # the part of the text that was appended last
        self._received = self._length = 0  # without those
        self._state = _START
        self._held = ""  # the beginning of what may be a tag, or white space before one
        self._closing_tag, self._closing = "", _LONE
        self._begins = False  # the reasoning, of which nothing but white space has come
        self._follows_reasoning = False
        self.watches = True  # for a closing tag without an opening one
        self._breaks = False  # a paragraph ends before the next text

    @property
    def received(self) -> int:
        """How many characters have come."""
        return self._received + self.passed

    @property
    def length(self) -> int:
        """How long the text is, in characters."""
        return self._length + self.passed

    @property
    def is_in_tags(self) -> bool:
        """Whether the text that comes is reasoning, as a tag has said."""
        return self._state == _REASONING

    def expect_no_tags(self) -> None:
        """Take a closing tag for text: the reasoning comes apart from it."""
        self.watches = False

    def end_paragraph(self) -> None:
        """Keep the next text apart from this one: something else came between them."""
        if self.length:
            self._breaks, self.is_plain = True, False

    def feed(self, text: str, found: list[Event]) -> None:
        """Take the next part of the text."""
        if len(self.head) < HEAD_LENGTH:
            self.head = (self.head + text)[:HEAD_LENGTH]
        self._received += len(text)
        if self._breaks and text:
            self._breaks = False
            if self._state == _TEXT and not text[0].isspace():
                text = f"\n\n{text}"
        if self._held:
            text, self._held = self._held + text, ""
        while text:
            if self._state == _START:
                text = self._begin(text)
            elif self._state == _REASONING:
                text = self._take_reasoning(text, found)
            else:
                text = self._take_text(text, found)
        is_text = self._state == _TEXT and not self._held and not self._breaks
        self.is_plain = is_text and len(self.head) >= HEAD_LENGTH

    def close(self, found: list[Event]) -> None:
        """Take what was held back: there will be no more."""
        held, self._held = self._held, ""
        if self._state == _REASONING:
            if held := held.rstrip():
                found.append(ReasoningDelta(held))
        elif self._state == _TEXT and self.watches and (end := _LONE.search(held)):
            self._end_untagged(held[: end.start()], found)
        elif held.strip() or not self._follows_reasoning:
            self._append_text(held, found)

    def _begin(self, text: str) -> str:
        """Look for a tag at the beginning of the text, or of what follows reasoning; the rest of the text."""
        rest = text.lstrip()
        known = rest[:_LONGEST].lower()
        if tag := next((tag for tag in _BEGINNINGS if known.startswith(tag)), None):
            self._follows_reasoning, self.watches = True, False
            if tag in TAGS:
                self._state, self._begins, self._closing_tag = _REASONING, True, TAGS[tag]
                self._closing = _CLOSING[self._closing_tag]
            return rest[len(tag) :].lstrip()
        if self._follows_reasoning:  # the white space belongs to neither
            text = rest
        if len(text) <= MAX_HELD and any(tag.startswith(known) for tag in _BEGINNINGS):
            self._held = text
            return ""
        self._state = _TEXT
        return text

    def _take_reasoning(self, text: str, found: list[Event]) -> str:
        """Take reasoning up to its closing tag; the rest of the text."""
        if self._begins and not (text := text.lstrip()):
            return ""
        self._begins = False
        if end := self._closing.search(text):
            reasoning, rest = text[: end.start()].rstrip(), text[end.end() :]
            self._state = _START
        else:
            reasoning, rest = text[: len(text) - _partial(text, self._closing_tag)].rstrip(), ""
            if len(text) - len(reasoning) > MAX_HELD:
                reasoning = text
            self._held = text[len(reasoning) :]
        if reasoning:
            found.append(ReasoningDelta(reasoning))
        return rest

    def _take_text(self, text: str, found: list[Event]) -> str:
        """Take text, unless a closing tag says that it was reasoning; the rest of the text."""
        if self.watches and _CANDIDATE.search(text):
            end = next((tag for tag in _LONE.finditer(text) if not _is_quoted(tag, self.last)), None)
            if _OPENING.search(text, 0, end.start() if end else len(text)):
                self.watches = False  # whatever closes is in the text, too
            elif end is not None and end.end() < len(text):
                self._end_untagged(text[: end.start()], found)
                return text[end.end() :]
            else:  # a tag at the end may be quoted: what is after it decides
                kept = end.start() if end else len(text) - max(_partial(text, tag) for tag in _WATCHED)
                text, self._held = text[:kept], text[kept:]
        self._append_text(text, found)
        return ""

    def _end_untagged(self, last: str, found: list[Event]) -> None:
        """Make reasoning of all text before a closing tag."""
        here = "".join([event.text for event in found if isinstance(event, TextDelta)])
        is_all = len(here) == self.length
        found[:] = [event for event in found if not isinstance(event, TextDelta)]
        if not is_all:  # a part has been passed on already
            found.append(TextWasReasoning())
        reasoning = (here + last).rstrip()
        if reasoning := reasoning.lstrip() if is_all else reasoning:
            found.append(ReasoningDelta(reasoning))
        self._length = -self.passed
        self._state, self.watches, self._follows_reasoning = _START, False, True

    def _append_text(self, text: str, found: list[Event]) -> None:
        if text:
            self._length += len(text)
            self.last = (self.last[-_CONTEXT:] + text)[-_CONTEXT:]
            found.append(TextDelta(text))


def _partial(text: str, tag: str) -> int:
    """How many of the last characters may be the beginning of a tag."""
    end = text[1 - len(tag) :].lower()
    return next((length for length in range(len(end), 0, -1) if tag.startswith(end[-length:])), 0)


def _is_quoted(tag: re.Match[str], last: str) -> bool:
    """Whether a tag, in a text that follows the last one, is mentioned in a sentence and closes nothing."""
    before = (last + tag.string[: tag.start()])[-_CONTEXT:]
    after = tag.string[tag.end() : tag.end() + 1]
    if before[-1:] in _QUOTES or after in _QUOTES:
        return True
    is_within_a_line = before[-1:] == " " and after not in ("", "\n", "\r")
    return is_within_a_line and before.rstrip(" ")[-1:] not in _SENTENCE_ENDS
