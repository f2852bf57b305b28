"""Pictures, recordings and videos in a reply, in the many forms in which providers send them.

Where a provider names only a place on the web nothing is fetched: an address that a model writes may be any. It
becomes a link at the end of the text.
"""

import re
from collections.abc import Iterator
from typing import Any

from .base64_content import Decoder, LongContent, LongRuns
from .events import Event, FileData, Notice, TextDelta
from .sources import is_web_url

IMAGE, AUDIO, VIDEO = "image", "audio", "video"
KINDS = (IMAGE, AUDIO, VIDEO)
MAX_ITEMS = 100  # of one reply, whatever is kept of them
MAX_LINKS = 20
MAX_DEPTH = 4
MAX_HEAD = 200  # characters of a data URL before its content
SHORTEST_DATA_URL = 100  # of one in a text: what is shorter is an example
NAMES = {IMAGE: "An image", AUDIO: "A recording", VIDEO: "A video"}  # in warnings
NO_CONTENT = "{name} that the model made came without its content, so it is not kept."

_TYPES = ("mime_type", "mimeType", "media_type", "mediaType")
# where the content is, or what it is in
_CONTENTS = ("image_url", "imageUrl", "video_url", "audio_url", "url", "b64_json", "base64", "data", "inline_data",
             "inlineData", "source", "image", "video", "audio", "input_audio", "file_data", "file")  # fmt: skip
_BASE64 = re.compile("[A-Za-z0-9+/_-]{8,}={0,2}|[A-Za-z0-9+/_-]{64}.*", re.DOTALL)
# as gateways write pictures into the text: in Markdown, and with nothing else than the whole picture in a part
_IN_TEXT = re.compile(
    r"!\[[^\]\n]{0,300}\]\(\s*(data:(?:image|audio|video)/[\w.+-]{1,80};base64,[A-Za-z0-9+/=_\s-]*+"
    r"(?:#[0-9a-f]{32}:\d{6}#)?)\s*(?:\"[^\"\n]{0,300}\")?\s*\)"
)


class ReplyMedia:
    """What one reply has of them."""

    def __init__(self, runs: LongRuns | None) -> None:
        self._runs = runs
        self.count = 0  # of all that came, kept or not
        self._links: list[tuple[str, str]] = []
        self._audio: int | None = None  # the number of a recording that comes in parts
        self._decoder = Decoder()

    @property
    def has_audio(self) -> bool:
        """Whether a recording comes in parts."""
        return self._audio is not None

    def take(self, kind: str, value: object, found: list[Event]) -> None:
        """Take one that is whole: an object around it, a data URL, Base64, or an address."""
        if not self._take_next():
            return
        media_type, text = _content_in(value, "", MAX_DEPTH)
        if text[:5].lower() == "data:":
            head, comma, _ = text[:MAX_HEAD].partition(",")
            media_type = head[5:].lower().removesuffix(";base64").strip() or media_type
            begin = len(head) + 1
            is_content = bool(comma) and head.lower().endswith(";base64")
        elif is_web_url(text):
            if len(self._links) < MAX_LINKS:
                self._links.append((kind, text))
            return
        else:
            begin, is_content = 0, _BASE64.fullmatch(text[:72]) is not None
        group = media_type.partition("/")[0]
        kind = group if group in KINDS else kind
        if not is_content:
            found.append(Notice(NO_CONTENT.format(name=NAMES[kind])))
            return
        found.append(FileData(self.count, kind, self._whole(text, begin), media_type=media_type))

    def take_audio(self, fields: dict[str, Any], found: list[Event]) -> None:
        """Take a part of a recording, which comes as OpenAI sends it, or all of it."""
        data = fields.get("data")
        if not isinstance(data, str) or not data:
            return
        if self._audio is None:
            if not self._take_next():
                return
            self._audio = self.count
        found.append(FileData(self._audio, AUDIO, self._part(data), is_last=False))

    def end(self, has_text: bool) -> list[Event]:
        """The end of a recording in parts, and links to what has no content here."""
        events: list[Event] = []
        if self._audio is not None:
            events.append(FileData(self._audio, AUDIO, self._decoder.rest()))
        if self._links:
            links = "\n\n".join(f"[{kind}]({url})" for kind, url in self._links)
            events.append(TextDelta(f"\n\n{links}" if has_text else links))
        return events

    def _take_next(self) -> bool:
        self.count += 1
        return self.count <= MAX_ITEMS

    def _whole(self, text: str, begin: int) -> Iterator[bytes]:
        end, rest = self._end_of(text)
        decoder = Decoder()
        yield from decoder.blocks(text, begin, end)
        yield from decoder.rest()
        if rest is not None:
            yield from rest.blocks()

    def _part(self, text: str) -> Iterator[bytes]:
        end, rest = self._end_of(text)
        yield from self._decoder.blocks(text, 0, end)
        if rest is not None:
            yield from rest.blocks()

    def _end_of(self, text: str) -> tuple[int, LongContent | None]:
        return self._runs.content_at(text, len(text)) if self._runs else (len(text), None)


def may_hold_files(text: str) -> bool:
    """Whether a text may have a whole file in it."""
    return len(text) > SHORTEST_DATA_URL and ";base64," in text


def split_text(text: str) -> list[tuple[str, bool]]:
    """The text cut at the files that it holds in Markdown: each part, and whether it is the data URL of one."""
    parts: list[tuple[str, bool]] = []
    last = 0
    for found in _IN_TEXT.finditer(text):
        if found.end(1) - found.start(1) > SHORTEST_DATA_URL:
            parts += [(text[last : found.start()], False), (found[1], True)]
            last = found.end()
    return [*parts, (text[last:], False)]


def _content_in(value: object, media_type: str, depth: int) -> tuple[str, str]:
    """The media type that is said, and the text in which the content, or where it is, must be."""
    if isinstance(value, str):
        return media_type, value
    if not isinstance(value, dict) or not depth:
        return media_type, ""
    named = next((value[name] for name in _TYPES if isinstance(value.get(name), str)), "")
    media_type = named[:MAX_HEAD].strip().lower() or media_type
    for name in _CONTENTS:
        if inner := value.get(name):
            found = _content_in(inner, media_type, depth - 1)
            if found[1]:
                return found
    return media_type, ""
