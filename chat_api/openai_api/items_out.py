"""Messages as items: a message of ours is one or more of OpenAI's. Pure functions."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from ..completions.reply_log import ATTACHMENT, REASONING, TEXT, TOOL_CALL, Chunk
from ..messages.parts import is_place_only
from . import ids

COMPLETED, INCOMPLETE, IN_PROGRESS = "completed", "incomplete", "in_progress"
PREFIXES = {TEXT: ids.MESSAGE, REASONING: ids.REASONING, TOOL_CALL: ids.CALL}  # of the kinds that are items

Item = dict[str, Any]


class ItemIds:
    """The ids of one reply's items, in their order.

    The first text and the first thoughts have the id of the message; further ones, and all calls, have their place
    at its end.
    """

    def __init__(self, message_id: str, erased: Mapping[str, str] | None = None) -> None:
        """`erased` are the kinds of those that are gone, by their places."""
        self._message_id, self._erased = message_id, erased or {}
        self._seen = {TOOL_CALL}
        self.count = 0  # how many items there are so far

    def take(self, kind: str) -> str:
        """The id of the next item."""
        while (gone := self._erased.get(str(self.count))) is not None:
            self._seen.add(gone)
            self.count += 1
        place = self.count if kind in self._seen else None
        self._seen.add(kind)
        self.count += 1
        return ids.item_id(PREFIXES[kind], self._message_id, place)


def message_items(
    message: Mapping[str, Any],
    chunks: Iterable[Chunk] | None = None,
    shown: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Item]:
    """The items of a message, given as clients of /chat get it.

    `chunks` are those of the reply's log, which has thoughts, and the order of text and calls; without it text comes
    before calls. `shown` are the contents that stand for attachments (`input_image`, `input_file`), by their ids.
    """
    if is_place_only(message) and chunks is None:
        return []
    if message["role"] == "tool":
        return [_result(message)]
    if message["role"] != "assistant":
        return [_said(message, shown or {})]
    its = chunks_of(message) if chunks is None else chunks
    return reply_items(str(message["id"]), its, status=message["status"], erased=message.get("erased"))


def reply_items(
    message_id: str, chunks: Iterable[Chunk], *, status: str, erased: Mapping[str, str] | None = None
) -> list[Item]:
    """The items of an assistant's message. Where the last of them is a text, it has the `status` of the message;
    the others are completed, as are all calls."""
    item_ids = ItemIds(message_id, erased)
    items = [item_of(item_ids.take(kind), kind, text) for kind, text in _joined(chunks)]
    if items and status != COMPLETED and items[-1]["type"] != "function_call":
        items[-1]["status"] = IN_PROGRESS if status == IN_PROGRESS else INCOMPLETE
    return items


def item_of(id_: str, kind: str, text: str) -> Item:
    """A completed item of a reply; of a call `text` is the JSON of the log."""
    if kind == TEXT:
        return {**_head(id_, "message"), "role": "assistant", "content": [output_text(text)]}
    if kind == REASONING:
        content = [{"type": "reasoning_text", "text": text}]
        return {**_head(id_, "reasoning"), "summary": [], "content": content}
    call = orjson.loads(text)
    its = {"call_id": call["id"], "name": call["name"], "arguments": call["arguments"]}
    return {**_head(id_, "function_call"), **its}


def find_item(items: Iterable[Item], id_: str) -> Item | None:
    """The one of a message's items that an id means; without a prefix the first, or the one at its place."""
    wanted = ids.read_item(id_)
    if wanted is None:
        return None
    for place, item in enumerate(items):
        its = ids.read_item(item["id"])
        if its == wanted or (not wanted.prefix and place == (wanted.place or 0)):
            return item
    return None


def output_text(text: str) -> dict[str, Any]:
    """A text that a model wrote."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _head(id_: str, kind: str) -> Item:
    return {"id": id_, "type": kind, "status": COMPLETED}


def _joined(chunks: Iterable[Chunk]) -> Iterator[tuple[str, str]]:
    """Kind and text of each item. Sources and files within a text do not part it."""
    kind, texts = "", list[str]()
    for chunk in chunks:
        if chunk.kind not in PREFIXES:
            continue
        if texts and (chunk.kind != kind or kind == TOOL_CALL):
            yield kind, "".join(texts)
            texts = []
        kind = chunk.kind
        texts.append(chunk.text)
    if texts:
        yield kind, "".join(texts)


def chunks_of(message: Mapping[str, Any]) -> list[Chunk]:
    """The parts of an assistant's message without a log: the text before the calls."""
    calls = message.get("tool_calls") or ()
    text = [Chunk(TEXT, message["content"])] if message["content"] or not calls else []
    return [*text, *(Chunk(TOOL_CALL, orjson.dumps(call).decode()) for call in calls)]


def _result(message: Mapping[str, Any]) -> Item:
    head = _head(ids.item_id(ids.RESULT, str(message["id"])), "function_call_output")
    return {**head, "call_id": message.get("tool_call_id") or "", "output": message["content"]}


def _said(message: Mapping[str, Any], shown: Mapping[str, Mapping[str, Any]]) -> Item:
    """A message of anybody but the model."""
    head = _head(ids.item_id(ids.MESSAGE, str(message["id"])), "message")
    parts = message.get("parts")
    content: list[Any] = []
    if parts is None:
        parts = [{"type": TEXT, "text": message["content"]}] if message["content"] else []
        parts += [{"type": ATTACHMENT, "attachment_id": attachment_id} for attachment_id in shown]
    for part in parts:
        if part["type"] == TEXT:
            content.append({"type": "input_text", "text": part["text"]})
        elif part["attachment_id"] in shown:
            content.append(dict(shown[part["attachment_id"]]))
    return {**head, "role": message["role"], "content": content or [{"type": "input_text", "text": ""}]}
