"""The events of one response. Their numbers are places in the reply, so a reply can be resumed at any of them.

With `b` = 2 at first, and for each item with a text of `L` characters:

    response.created 0 · response.in_progress 1
    text or thoughts: output_item.added b · content_part.added b+1 · delta whose last character is the k-th b+1+k ·
        done b+2+L · content_part.done b+3+L · output_item.done b+4+L, and the next item begins at b+5+L
    call: output_item.added b · arguments.delta b+1 · arguments.done b+2 · output_item.done b+3, next b+4
    end: error b, of a failed response only · the terminal event b+1

However a reply is cut into deltas, at once or for a client that comes back, an event with a number says the same.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from ...completions.event_stream import Encoding
from ...completions.records import StoredCompletion
from ...completions.reply_log import REASONING, TEXT, TOOL_CALL, Chunk
from ...errors import ApiError
from ...web.responses import ORJSON_OPTIONS
from ..items_out import COMPLETED, IN_PROGRESS, INCOMPLETE, PREFIXES, ItemIds, item_of, output_text
from .objects import CANCELLED, FAILED, begun_object, error_of, stored_object

DONE = b"data: [DONE]\n\n"
_NAMES = {TEXT: "output_text", REASONING: "reasoning_text"}
_ENDS = {CANCELLED: "response.incomplete"}  # there is no event for a response that was cancelled


class ResponseEvents(Encoding):
    """The events of one response after a number; for one stream, as it counts."""

    open, keepalive = b": open\n\n", b": keepalive\n\n"

    def __init__(self, after: int = -1, erased: Mapping[str, str] | None = None) -> None:
        """`erased` are the kinds of the reply's items that were deleted since, by their places."""
        self._after, self._erased = after, erased
        self._index = -1  # of the newest item
        self._next = 2  # the number of the event that comes next, in whatever item
        self._kind: str | None = None  # of the item that is open
        self._item_id = ""
        self._texts: list[str] = []
        self._delta = b""

    def started(self, row: Mapping[str, Any], parent: dict[str, Any]) -> bytes:
        """The first events."""
        self._ids = ItemIds(str(row["message_id"]), self._erased)
        response = begun_object(row)
        frames = self._event(0, "response.created", {"response": response})
        frames += self._event(1, "response.in_progress", {"response": response})
        return frames or self.open

    def chunks(self, chunks: list[Chunk], position: int) -> bytes:
        """The events of what came; of sources and files there are none in this dialect."""
        frames = []
        for chunk in chunks:
            if chunk.kind in PREFIXES:
                if chunk.kind != self._kind:
                    frames.append(self._close())
                frames.append(
                    self._call(chunk.text) if chunk.kind == TOOL_CALL else self._text(chunk.kind, chunk.text)
                )
        return b"".join(frames)

    def ended(self, stored: StoredCompletion) -> bytes:
        """The last events."""
        response = stored_object(stored)
        frames = self._close(COMPLETED if response["status"] == COMPLETED else INCOMPLETE)
        if response["status"] == FAILED:
            frames += self._error(stored.problem)
        name = _ENDS.get(response["status"], f"response.{response['status']}")
        return frames + self._event(self._next + 1, name, {"response": response}) + DONE

    def cut_off(self, error: ApiError) -> bytes:
        """The error alone: nothing is said of the response, which may go on."""
        return self._error({"code": error.code, "detail": error.detail})

    def _error(self, problem: Mapping[str, Any] | None) -> bytes:
        """Nested as OpenAI sends it, and flat as its document has it."""
        error = error_of(problem)
        return self._event(self._next, "error", {"error": error, **error, "type": "error"})

    def _text(self, kind: str, text: str) -> bytes:
        frames = self._open(kind) if self._kind is None else b""
        seen = max(self._after + 1 - self._next, 0)  # characters that the client has
        self._texts.append(text)
        self._next += len(text)
        if seen >= len(text):
            return frames
        return frames + self._delta % (orjson.dumps(text[seen:]), self._next - 1)

    def _open(self, kind: str) -> bytes:
        self._index += 1
        self._kind, self._item_id, self._texts = kind, self._ids.take(kind), []
        item = {**item_of(self._item_id, kind, ""), "status": IN_PROGRESS, "content": []}
        frames = self._event(
            self._next, "response.output_item.added", {"output_index": self._index, "item": item}
        )
        where = self._where()
        frames += self._event(
            self._next + 1, "response.content_part.added", {**where, "part": _part(kind, "")}
        )
        self._next += 2
        name = f"response.{_NAMES[kind]}.delta"
        logprobs: dict[str, Any] = {"logprobs": []} if kind == TEXT else {}
        whole = orjson.dumps({"type": name, **where, **logprobs, "delta": 0})
        # what most events are, with nothing left to do but to fill in
        self._delta = b'event: %b\ndata: %b"delta":%%b,"sequence_number":%%d}\n\n' % (
            name.encode(),
            whole.removesuffix(b'"delta":0}'),
        )
        return frames

    def _close(self, status: str = COMPLETED) -> bytes:
        """The end of the item that is open."""
        if self._kind is None:
            return b""
        kind, text, where = self._kind, "".join(self._texts), self._where()
        logprobs: dict[str, Any] = {"logprobs": []} if kind == TEXT else {}
        item = {**item_of(self._item_id, kind, text), "status": status}
        frames = b"".join(
            (
                self._event(self._next, f"response.{_NAMES[kind]}.done", {**where, "text": text, **logprobs}),
                self._event(
                    self._next + 1, "response.content_part.done", {**where, "part": _part(kind, text)}
                ),
                self._item_done(self._next + 2, item),
            )
        )
        self._next += 3
        self._kind = None
        return frames

    def _call(self, text: str) -> bytes:
        self._index += 1
        self._item_id = self._ids.take(TOOL_CALL)
        item = item_of(self._item_id, TOOL_CALL, text)
        begun = {**item, "status": IN_PROGRESS, "arguments": ""}
        where = {"item_id": self._item_id, "output_index": self._index}
        arguments = item["arguments"]
        number = self._next
        self._next += 4
        return b"".join(
            (
                self._event(
                    number, "response.output_item.added", {"output_index": self._index, "item": begun}
                ),
                self._event(
                    number + 1, "response.function_call_arguments.delta", {**where, "delta": arguments}
                ),
                self._event(
                    number + 2,
                    "response.function_call_arguments.done",
                    {**where, "name": item["name"], "arguments": arguments},
                ),
                self._item_done(number + 3, item),
            )
        )

    def _item_done(self, number: int, item: Mapping[str, Any]) -> bytes:
        content = {"output_index": self._index, "item": item}
        return self._event(number, "response.output_item.done", content)

    def _where(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": self._index, "content_index": 0}

    def _event(self, number: int, name: str, content: Mapping[str, Any]) -> bytes:
        """One event; nothing where the client has it already."""
        if number <= self._after:
            return b""
        data = {"type": name, **content, "sequence_number": number}
        return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data, option=ORJSON_OPTIONS))


def _part(kind: str, text: str) -> dict[str, Any]:
    return output_text(text) if kind == TEXT else {"type": "reasoning_text", "text": text}
