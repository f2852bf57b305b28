"""A reply as a UI message stream, version 1, which `ai` 5, 6 and 7 read.

A client takes no chunk that it does not know, and throws at a delta whose part has not begun: so parts are opened and
closed here, one at a time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ..completions.event_stream import Encoding
from ..completions.records import StoredCompletion
from ..completions.reply_log import ATTACHMENT, SOURCE, TOOL_CALL, Chunk
from ..errors import ApiError
from ..messages.models import ERROR_OUTPUT
from .ui_messages import (
    FINISH_REASONS,
    NO_JSON,
    CallIds,
    Known,
    Message,
    chunks_of,
    file_of,
    input_of,
    is_gone,
    metadata_of,
    output_of,
    outputs_of,
    source_of,
)

HEADER = {"X-Vercel-AI-UI-Message-Stream": "v1"}
DONE = b"data: [DONE]\n\n"
START_STEP, FINISH_STEP = b'data: {"type":"start-step"}\n\n', b'data: {"type":"finish-step"}\n\n'
BROKEN_OFF = "The reply was broken off."


class UiChunks(Encoding):
    """The chunks of one reply; for one stream, as it knows which part is open.

    `message_id` is that of the UIMessage that the reply goes on with; None: the reply begins one. Of that the client
    has what came `before`. One that resumes has none of it, so it gets the `earlier` messages of it, too.
    """

    def __init__(
        self,
        *,
        message_id: str | None = None,
        before: Sequence[Message] = (),
        earlier: Sequence[Message] = (),
        known: Known | None = None,
    ) -> None:
        self._ids = CallIds(before)
        self._message_id, self._earlier, self._known = message_id, earlier, known or Known()
        self._count = 0  # of parts so far
        self._open: str | None = None  # the kind of the part that is open

    def started(self, row: Mapping[str, Any], parent: dict[str, Any]) -> bytes:
        """The beginning of the message, or of its next step, which it goes on with."""
        message_id = self._message_id or str(row["message_id"])
        frames = [_frame({"type": "start", "messageId": message_id})]
        outputs = outputs_of(self._earlier)
        for message in self._earlier:
            if message["role"] == "assistant":
                frames += [START_STEP, self._step(chunks_of(message, self._known), outputs), FINISH_STEP]
        return b"".join([*frames, START_STEP])

    def chunks(self, chunks: list[Chunk], position: int) -> bytes:
        """What came."""
        return b"".join(map(self._chunk, chunks))

    def ended(self, stored: StoredCompletion) -> bytes:
        """The end: of a message that is whole, that was cancelled, or that failed."""
        frames = self._close()
        if stored.row["status"] == "cancelled":
            return frames + _frame({"type": "abort"}) + DONE
        if stored.problem is not None or stored.row["status"] == "failed":
            text = stored.problem["detail"] if stored.problem else BROKEN_OFF
            return frames + _error(text)
        reason = FINISH_REASONS.get(stored.row["finish_reason"] or "stop", "other")
        finish = {"type": "finish", "finishReason": reason, "messageMetadata": metadata_of(stored.row)}
        return frames + FINISH_STEP + _frame(finish) + DONE

    def cut_off(self, error: ApiError) -> bytes:
        """The end, with the error: a page would wait for nothing else."""
        return self._close() + _error(error.detail)

    def _step(self, chunks: Sequence[Chunk], outputs: Mapping[str, Message]) -> bytes:
        """A step that has ended, with the results of its calls."""
        frames, results = list[bytes](), list[bytes]()
        for chunk in chunks:
            if chunk.kind != TOOL_CALL:
                frames.append(self._chunk(chunk))
                continue
            call = orjson.loads(chunk.text)
            call_id = self._ids.next(call["id"])
            frames.append(self._close() + _call(call, call_id))
            if result := outputs.get(call_id):
                results.append(_output(result, call_id))
        return b"".join([*frames, self._close(), *results])

    def _chunk(self, chunk: Chunk) -> bytes:
        if chunk.kind == SOURCE:  # beside the text, which goes on
            return _frame(source_of(chunk))
        if chunk.kind == ATTACHMENT:
            return b"" if is_gone(chunk) else self._close() + _frame(file_of(chunk, self._known.address))
        if chunk.kind == TOOL_CALL:
            call = orjson.loads(chunk.text)
            return self._close() + _call(call, self._ids.next(call["id"]))
        return self._open_part(chunk.kind) + self._delta(chunk.text)

    def _open_part(self, kind: str) -> bytes:
        if self._open == kind:
            return b""
        closed = self._close()
        self._open, self._count = kind, self._count + 1
        self._before = b'data: {"type":"%b-delta","id":"%d","delta":' % (kind.encode(), self._count)
        return closed + _frame({"type": f"{kind}-start", "id": str(self._count)})

    def _delta(self, text: str) -> bytes:
        return b"%b%b}\n\n" % (self._before, orjson.dumps(text))

    def _close(self) -> bytes:
        kind, self._open = self._open, None
        return _frame({"type": f"{kind}-end", "id": str(self._count)}) if kind else b""


def _call(call: Mapping[str, str], call_id: str) -> bytes:
    # the service has no tools of its own: each is known by its name alone
    names = {"toolCallId": call_id, "toolName": call["name"], "dynamic": True}
    given = input_of(call)
    if given is None:
        error = {"type": "tool-input-error", **names, "input": call["arguments"], "errorText": NO_JSON}
        return _frame(error)
    return _frame({"type": "tool-input-available", **names, "input": given})


def _output(result: Message, call_id: str) -> bytes:
    names = {"toolCallId": call_id, "dynamic": True}
    if result.get("output_kind") == ERROR_OUTPUT:
        return _frame({"type": "tool-output-error", **names, "errorText": result["content"]})
    return _frame({"type": "tool-output-available", **names, "output": output_of(result)})


def _error(text: str) -> bytes:
    return _frame({"type": "error", "errorText": text}) + DONE


def _frame(content: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(content)
