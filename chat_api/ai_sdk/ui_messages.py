"""Stored messages as the AI SDK has them: what a user says is one UIMessage, all answers until the next one another."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..attachments.sendable import Sendable
from ..completions.reply_log import ATTACHMENT, REASONING, SOURCE, TEXT, TOOL_CALL, Chunk, ReplyLog, rebuilt
from ..llm.untrusted_json import is_serializable
from ..messages.answers import ANSWERS
from ..messages.models import ERROR_OUTPUT, JSON_OUTPUT
from ..messages.parts import is_place_only

NO_JSON = "The arguments of this call are no JSON object."
FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
}

Message = Mapping[str, Any]
Address = Callable[[str], str]
"""The address of an attachment's content for a page, by the attachment's id."""


@dataclass(frozen=True, slots=True)
class Known:
    """What belongs to the messages that are shown."""

    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # completions, by their messages
    files: Mapping[str, Sequence[Sendable]] = field(default_factory=dict)  # by their messages
    address: Address = str


def id_of(message: Message) -> str:
    """What its client calls a message."""
    return str(message.get("external_id") or message["id"])


def groups_of(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Messages, oldest first, as each UIMessage has them: answers that follow each other are together."""
    group: list[Message] = []
    for message in messages:
        if is_place_only(message):
            continue
        if group and not (message["role"] in ANSWERS and group[-1]["role"] in ANSWERS):
            yield group
            group = []
        group.append(message)
    if group:
        yield group


def ui_message(group: Sequence[Message], known: Known) -> dict[str, Any]:
    """The UIMessage of such messages."""
    first = group[0]
    if first["role"] not in ANSWERS:
        role = "user" if first["role"] == "user" else "system"
        return {"id": id_of(first), "role": role, "parts": list(_parts_of_user(first, known))}
    parts: list[dict[str, Any]] = []
    outputs, ids = outputs_of(group), CallIds()
    for message in group:
        if message["role"] == "assistant":
            parts.append({"type": "step-start"})
            parts += [_part(chunk, outputs, ids, known) for chunk in chunks_of(message, known)]
    shown: dict[str, Any] = {"id": id_of(first), "role": "assistant", "parts": parts}
    last = next((message for message in reversed(group) if message["role"] == "assistant"), first)
    if answer := known.answers.get(str(last["id"])):
        shown["metadata"] = metadata_of(answer)
    return shown


def chunks_of(message: Message, known: Known) -> list[Chunk]:
    """What a message of the assistant consists of, in its order."""
    answer = known.answers.get(str(message["id"]))
    calls = message.get("tool_calls", [])
    if answer is None or not answer["outline"]:
        log = ReplyLog([Chunk(TEXT, message["content"])] if message["content"] else [])
        for call in calls:
            log.append(Chunk(TOOL_CALL, orjson.dumps(call).decode()))
        return log.after(0)
    by_id = {file.id: file for file in known.files.get(str(message["id"]), ())}
    files = [
        by_id.get(part["attachment_id"]) for part in message.get("parts", ()) if part["type"] == ATTACHMENT
    ]
    log = rebuilt(
        answer["outline"],
        text=message["content"],
        reasoning=answer["reasoning"] or "",
        tool_calls=calls,
        sources=message.get("sources", []),
        attachments=[file and {"id": file.id, "file_type": file.file_type} for file in files],
    )
    return [chunk for chunk in log.after(0) if not is_gone(chunk)]


def is_gone(chunk: Chunk) -> bool:
    """Whether it stands for a file that was deleted since."""
    return chunk.kind == ATTACHMENT and chunk.text == "null"


class CallIds:
    """What calls are called in a UIMessage, given in their order. There an id stands for one call, but some providers
    begin to count again with each reply."""

    def __init__(self, before: Iterable[Message] = ()) -> None:
        """`before` are messages whose calls have come already."""
        self._counts = Counter(call["id"] for message in before for call in message.get("tool_calls", ()))

    def next(self, call_id: str) -> str:
        """The id of the next call, whose provider calls it this."""
        self._counts[call_id] += 1
        count = self._counts[call_id]
        return call_id if count == 1 else f"{call_id}~{count}"


def calls_of(group: Iterable[Message]) -> dict[str, str]:
    """The calls of a UIMessage: what their providers call them, by their ids there."""
    ids = CallIds()
    return {ids.next(call["id"]): call["id"] for message in group for call in message.get("tool_calls", ())}


def outputs_of(group: Iterable[Message]) -> dict[str, Message]:
    """The results of calls, by the ids of the calls in the UIMessage."""
    ids, newest, outputs = CallIds(), dict[str, str](), dict[str, Message]()
    for message in group:
        for call in message.get("tool_calls", ()):
            newest[call["id"]] = ids.next(call["id"])
        if call_id := message.get("tool_call_id"):
            outputs[newest.get(str(call_id), str(call_id))] = message
    return outputs


def input_of(call: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of a call; None where they are none."""
    try:
        given = orjson.loads(call["arguments"] or "{}")
    except orjson.JSONDecodeError:
        return None
    return given if isinstance(given, dict) and is_serializable(given) else None


def output_of(result: Message) -> Any:
    """What a tool gave, as its client sent it."""
    if result.get("output_kind") != JSON_OUTPUT:
        return result["content"]
    try:
        given = orjson.loads(result["content"])
    except orjson.JSONDecodeError:
        return result["content"]
    return given if is_serializable(given) else result["content"]


def source_of(chunk: Chunk) -> dict[str, Any]:
    """A source as a part; it is known by its address."""
    source = orjson.loads(chunk.text)
    part = {"type": "source-url", "sourceId": source["url"], "url": source["url"]}
    return part | ({"title": source["title"]} if source["title"] else {})


def file_of(chunk: Chunk, address: Address) -> dict[str, Any]:
    """A file of a reply as a part."""
    file = orjson.loads(chunk.text)
    return {"type": "file", "mediaType": file["file_type"], "url": address(file["id"])}


def metadata_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a reply besides what it says."""
    usage = {"inputTokens": answer["prompt_tokens"], "outputTokens": answer["completion_tokens"]}
    return {"usage": usage, "model": answer["model"], "completionId": str(answer["id"])}


def _parts_of_user(message: Message, known: Known) -> Iterator[dict[str, Any]]:
    files = {file.id: file for file in known.files.get(str(message["id"]), ())}
    placed = message.get("parts") or (
        [{"type": "text", "text": message["content"]}] if message["content"] else []
    )
    for part in placed:
        if part["type"] == "text":
            yield {"type": "text", "text": part["text"]}
        elif (file := files.pop(part["attachment_id"], None)) is not None:
            yield _file_of_user(file, known)
    for file in files.values():  # attached without a place in the text
        yield _file_of_user(file, known)


def _file_of_user(file: Sendable, known: Known) -> dict[str, Any]:
    part = {"type": "file", "mediaType": file.file_type}
    if file.name is None:  # a label, which may be an address
        return part | {"url": file.file_name}
    return part | {"filename": file.file_name, "url": known.address(file.id)}


def _part(chunk: Chunk, outputs: Mapping[str, Message], ids: CallIds, known: Known) -> dict[str, Any]:
    if chunk.kind in (TEXT, REASONING):
        return {"type": chunk.kind, "text": chunk.text, "state": "done"}
    if chunk.kind == SOURCE:
        return source_of(chunk)
    if chunk.kind == ATTACHMENT:
        return file_of(chunk, known.address)
    call = orjson.loads(chunk.text)
    call_id = ids.next(call["id"])
    part = {"type": "dynamic-tool", "toolName": call["name"], "toolCallId": call_id}
    given = input_of(call)
    if given is None:
        return part | {"state": "output-error", "input": call["arguments"], "errorText": NO_JSON}
    part["input"] = given
    result = outputs.get(call_id)
    if result is None:
        return part | {"state": "input-available"}
    if result.get("output_kind") == ERROR_OUTPUT:
        return part | {"state": "output-error", "errorText": result["content"]}
    return part | {"state": "output-available", "output": output_of(result)}
