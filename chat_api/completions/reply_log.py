"""The log of one reply: what the provider sent, in order, and a position for every point in it.

A position counts the characters of text and reasoning that came before it, and one for each tool call, source and
attachment. It is the id of the events of a stream. So ids count up, a client that names one goes on at exactly that
character, and a reply that ended long ago can be replayed from any id without a record of how it was once cut into
events: its text and the order of its parts (`outline`) are enough.
"""

from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

import orjson

from ..llm.events import Source, ToolCall

TEXT, REASONING, TOOL_CALL, SOURCE, ATTACHMENT = "text", "reasoning", "tool_call", "source", "attachment"
WHOLE = (TOOL_CALL, SOURCE, ATTACHMENT)  # kinds that are not cut and have a position each; their text is JSON
KINDS = (TEXT, REASONING, *WHOLE)
GONE = "null"  # instead of an attachment that was deleted since
START = 0  # the position before the first character; the id of `completion.started`


class Chunk(NamedTuple):
    """A part of a reply: a text that may be cut anywhere, or a tool call, source or attachment, which are whole."""

    kind: str
    text: str  # of what is whole: JSON

    @property
    def length(self) -> int:
        """By how much it moves the position."""
        return 1 if self.kind in WHOLE else len(self.text)


class ReplyLog:
    """What is there of one reply. One thread appends; others read what they know to be there."""

    __slots__ = ("_chunks", "_ends")

    def __init__(self, chunks: Iterable[Chunk] = ()) -> None:
        self._chunks: list[Chunk] = []
        self._ends: list[int] = []  # the position after each chunk
        for chunk in chunks:
            self.append(chunk)

    @property
    def position(self) -> int:
        """The position after the last chunk."""
        return self._ends[-1] if self._ends else START

    def append(self, chunk: Chunk) -> None:
        """Add a chunk at the end."""
        end = self.position + chunk.length
        self._chunks.append(chunk)
        self._ends.append(end)  # last: it is what readers go by

    def make_reasoning(self) -> None:
        """Make reasoning of all text so far, as it has turned out to be. Positions stay as they are."""
        for index, chunk in enumerate(self._chunks):
            if chunk.kind == TEXT:
                self._chunks[index] = chunk._replace(kind=REASONING)

    def after(self, position: int) -> list[Chunk]:
        """What came after a position, chunks of one kind joined; nothing where that position is not reached yet."""
        index = bisect_right(self._ends, position)
        count = len(self._ends)
        if index == count:
            return []
        chunks = self._chunks[index:count]
        begin = self._ends[index] - chunks[0].length
        if position > begin:
            chunks[0] = Chunk(chunks[0].kind, chunks[0].text[position - begin :])
        return list(joined(chunks)) if len(chunks) > 1 else chunks

    def text_of(self, kind: str) -> str:
        """All text of one kind."""
        return "".join([chunk.text for chunk in self._chunks if chunk.kind == kind])

    def tool_calls(self) -> str | None:
        """The tool calls as a JSON array, None where there are none."""
        return self._array_of(TOOL_CALL)

    def sources(self) -> str | None:
        """The sources, without the places in the text, as a JSON array; None where there are none."""
        return self._array_of(SOURCE)

    def attachments(self) -> list[dict[str, Any]]:
        """The files of the reply, in their order."""
        return [orjson.loads(chunk.text) for chunk in self._chunks if chunk.kind == ATTACHMENT]

    def parts(self, attachment_ids: Container[str]) -> str | None:
        """Text and attachments in their order, as JSON, of the attachments those with these ids; None without any."""
        parts: list[dict[str, str]] = []
        texts: list[str] = []
        for chunk in self._chunks:
            if chunk.kind == TEXT:
                texts.append(chunk.text)
            elif chunk.kind == ATTACHMENT and (id := orjson.loads(chunk.text)["id"]) in attachment_ids:
                parts += [*_text_parts(texts), {"type": "attachment", "attachment_id": id}]
                texts = []
        return orjson.dumps([*parts, *_text_parts(texts)]).decode() if parts else None

    def _array_of(self, kind: str) -> str | None:
        items = [chunk.text for chunk in self._chunks if chunk.kind == kind]
        return f"[{','.join(items)}]" if items else None

    def outline(self) -> str:
        """The order and lengths of its parts, as JSON: what `rebuilt` needs besides their texts."""
        return orjson.dumps([(chunk.kind, chunk.length) for chunk in joined(self._chunks)]).decode()


def _text_parts(texts: Sequence[str]) -> list[dict[str, str]]:
    """The part of these texts, without the empty lines that keep them apart from others; none where nothing is left."""
    text = "".join(texts).strip("\n")
    return [{"type": "text", "text": text}] if text.strip() else []


def joined(chunks: Sequence[Chunk]) -> Iterator[Chunk]:
    """The same with neighbours of one kind put together; what is whole stays apart."""
    kind: str | None = None
    texts: list[str] = []
    for chunk in chunks:
        if chunk.kind != kind or kind in WHOLE:
            if kind is not None:
                yield Chunk(kind, "".join(texts))
            kind, texts = chunk.kind, []
        texts.append(chunk.text)
    if kind is not None:
        yield Chunk(kind, "".join(texts))


def rebuilt(
    outline: str,
    *,
    text: str,
    reasoning: str,
    tool_calls: list[Any],
    sources: list[Any],
    attachments: Sequence[Any] = (),
) -> ReplyLog:
    """The log of a reply that has ended, from what was stored of it; None stands for an attachment that is gone."""
    log, items = ReplyLog(), {TOOL_CALL: iter(tool_calls), SOURCE: map(_without_places, sources)}
    items[ATTACHMENT] = chain(attachments, repeat(None))
    texts, taken = {TEXT: text, REASONING: reasoning}, {TEXT: 0, REASONING: 0}
    for kind, length in orjson.loads(outline):
        if kind in WHOLE:
            item = next(items[kind], None)
            if item is not None or kind == ATTACHMENT:  # of a message that was deleted there is none
                log.append(Chunk(kind, orjson.dumps(item).decode()))
            continue
        begin = taken[kind]
        taken[kind] = begin + length
        if part := texts[kind][begin : begin + length]:  # cut from the whole: what remains is never copied
            log.append(Chunk(kind, part))
    return log


def tool_call_chunk(call: ToolCall) -> Chunk:
    """A tool call as a chunk."""
    content = {"id": call.id, "name": call.name, "arguments": call.arguments}
    return Chunk(TOOL_CALL, orjson.dumps(content).decode())


def attachment_chunk(attachment: dict[str, Any]) -> Chunk:
    """An attachment as a chunk."""
    return Chunk(ATTACHMENT, orjson.dumps(attachment).decode())


def source_chunk(source: Source) -> Chunk:
    """A source as a chunk, without its places: they are known when the text has ended."""
    return Chunk(SOURCE, orjson.dumps({"url": source.url, "title": source.title, "places": []}).decode())


def _without_places(source: dict[str, Any]) -> dict[str, Any]:
    return {**source, "places": []}


def to_json(chunks: Iterable[Chunk]) -> str:
    """Chunks as they are kept of a reply in progress."""
    return orjson.dumps([(chunk.kind, chunk.text) for chunk in chunks]).decode()


def from_json(text: str) -> list[Chunk]:
    """The chunks that `to_json` wrote."""
    return [Chunk(kind, content) for kind, content in orjson.loads(text)]
