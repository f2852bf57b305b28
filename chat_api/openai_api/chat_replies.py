"""Replies of chat.completions: a completion of ours as an object, and as the chunks of a stream."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ..completions.event_stream import Encoding
from ..completions.records import StoredCompletion
from ..completions.reply_log import ATTACHMENT, GONE, REASONING, TEXT, TOOL_CALL, Chunk
from ..database.columns import seconds_of
from ..errors import ApiError
from .errors import envelope
from .file_links import Address, ShownFile, shown
from .ids import CHAT_COMPLETION, written

DONE = b"data: [DONE]\n\n"


def files_of(stored: StoredCompletion) -> list[ShownFile]:
    """The files that the model made."""
    return [shown(each) for each in stored.attachments if each is not None]


def completion_object(
    completion: Mapping[str, Any],
    *,
    model: str,
    files: Sequence[ShownFile] = (),
    address: Address | None = None,
) -> dict[str, Any]:
    """A completion that has ended, as `chat.completion`; `model` is the name that was asked for."""
    message = completion["message"] or {}
    said: dict[str, Any] = {
        "role": "assistant",
        "content": message.get("content") or None,
        "refusal": None,
        "annotations": [],
    }
    if calls := message.get("tool_calls"):
        said["tool_calls"] = [_call(call) for call in calls]
    if completion["reasoning"]:
        said["reasoning_content"] = completion["reasoning"]
    if address is not None:
        said |= _shown_files(files, address, 0)
    return {
        **_head(completion["id"], completion["created_at"], model, "chat.completion"),
        "choices": [
            {
                "index": 0,
                "message": said,
                "logprobs": None,
                "finish_reason": _finish_reason(completion),
            }
        ],
        "usage": _usage(completion["usage"]),
        "service_tier": "default",
        "system_fingerprint": None,
    }


class ChatChunks(Encoding):
    """The chunks of one reply; for one stream, as it counts calls."""

    def __init__(self, *, model: str, has_usage: bool, address: Address) -> None:
        self._model, self._has_usage = model, has_usage
        self._address, self._images = address, 0
        self._calls = 0
        self._head: dict[str, Any] = {}
        self._before = self._after = b""

    def started(self, row: Mapping[str, Any], parent: dict[str, Any]) -> bytes:
        """The first chunk: the role."""
        head = _head(row["id"], row["created_at"], self._model, "chat.completion.chunk")
        end: dict[str, Any] = {"usage": None} if self._has_usage else {}
        self._head, self._end = head, end
        whole = orjson.dumps({**head, "choices": [{"index": 0, "delta": 0}], **end})
        self._before, self._after = whole.split(b'"delta":0', 1)
        # what most chunks are, with nothing left to do but to fill in
        self._after = b',"logprobs":null,"finish_reason":null' + self._after
        return self._delta({"role": "assistant", "content": "", "refusal": None})

    def chunks(self, chunks: list[Chunk], position: int) -> bytes:
        """The chunks of what came; of sources there are none in this dialect."""
        frames = []
        for chunk in chunks:
            if chunk.kind == TEXT:
                frames.append(self._delta({"content": chunk.text}))
            elif chunk.kind == REASONING:
                frames.append(self._delta({"reasoning_content": chunk.text}))
            elif chunk.kind == TOOL_CALL:
                frames.append(self._call(orjson.loads(chunk.text)))
            elif chunk.kind == ATTACHMENT and chunk.text != GONE:
                frames.append(self._file(shown(orjson.loads(chunk.text))))
        return b"".join(frames)

    def ended(self, stored: StoredCompletion) -> bytes:
        """The last chunks; of a reply that was broken off the error, after which nothing comes."""
        if (problem := stored.problem) is not None:
            return _error(problem["status"], problem["code"], problem["detail"])
        reason = _finish_reason(stored.row)
        last = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}
        frames = _frame({**self._head, "choices": [last], **self._end})
        if self._has_usage:
            frames += _frame({**self._head, "choices": [], "usage": _usage(stored.to_json()["usage"])})
        return frames + DONE

    def cut_off(self, error: ApiError) -> bytes:
        """The error: without one a client would take what came for all."""
        return _error(error.status, error.code, error.detail)

    def _file(self, file: ShownFile) -> bytes:
        found = _shown_files([file], self._address, self._images)
        self._images += file.is_image
        return self._delta(found)

    def _call(self, call: Mapping[str, str]) -> bytes:
        index, self._calls = self._calls, self._calls + 1
        begin = _call({**call, "arguments": ""})
        return self._delta({"tool_calls": [{"index": index, **begin}]}) + self._delta(
            {"tool_calls": [{"index": index, "function": {"arguments": call["arguments"]}}]}
        )

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        return b'data: %b"delta":%b%b\n\n' % (self._before, orjson.dumps(delta), self._after)


def _shown_files(files: Sequence[ShownFile], address: Address, first: int) -> dict[str, Any]:
    """Files of a message, which OpenAI's own replies have not: pictures as OpenRouter has them, and others."""
    images = [file.as_part(address) for file in files if file.is_image]
    others = [file.as_part(address) for file in files if not file.is_image]
    found: dict[str, Any] = {}
    if images:
        found["images"] = [{**image, "index": number} for number, image in enumerate(images, first)]
    if others:
        found["files"] = others
    return found


def _error(status: int, code: str, detail: str) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(envelope(status, code, detail, {}).body)


def _frame(content: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(content)


def _head(id_: Any, created_at: Any, model: str, kind: str) -> dict[str, Any]:
    return {
        "id": written(CHAT_COMPLETION, str(id_)),
        "object": kind,
        "created": int(seconds_of(created_at)),
        "model": model,
    }


def _call(call: Mapping[str, str]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": call["arguments"]}
    return {"id": call["id"], "type": "function", "function": function}


def _finish_reason(completion: Mapping[str, Any]) -> str:
    """Why a reply ended. For one that was broken off the dialect has no better word than that there would be more;
    of one that was cancelled the text is whole as far as it goes."""
    reason: str | None = completion["finish_reason"]
    if reason in ("stop", "length", "tool_calls", "content_filter"):
        return reason
    return "length" if completion["status"] == "incomplete" else "stop"


def _usage(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    nothing: Sequence[str] = ("audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens")
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
        "prompt_tokens_details": {"cached_tokens": usage.get("cached_tokens", 0), "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.get("reasoning_tokens", 0),
            **dict.fromkeys(nothing, 0),
        },
    }
