"""Messages of Anthropic's Messages API, as they are sent: those of `history` as blocks."""

from collections.abc import Iterable
from typing import Any

from ..claude_blocks import SERVER_CALLS, THINKING, blocks_of
from ..parts import IMAGE, DocumentPart, EncodedContent, LinkPart, Part, TextPart
from ..request import ChatMessage
from ..untrusted_json import as_text, parse_json

# blocks that are made of the message itself
_OWN = ("text", "tool_use", "tool_result")


def system_text(messages: Iterable[ChatMessage], instruction: str = "") -> str:
    """The system messages, which are sent apart from the others, and after them an instruction of ours."""
    system = [message.content for message in messages if message.role in ("system", "developer")]
    return "\n\n".join(content for content in (*system, instruction) if content.strip())


def sent_messages(messages: Iterable[ChatMessage]) -> list[dict[str, Any]]:
    """The other messages, consecutive ones of one role as one."""
    merged: list[dict[str, Any]] = []
    for message in messages:
        if message.role in ("system", "developer") or not (blocks := _blocks(message)):
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += blocks
        else:
            merged.append({"role": role, "content": blocks})
    for number, sent in enumerate(merged, 1):
        if sent["role"] == "assistant":
            sent["content"] = _closed(sent["content"], is_last=number == len(merged))
    if merged and merged[-1]["role"] == "assistant":  # the model goes on right after it
        last = merged[-1]["content"][-1]
        if last["type"] == "text":
            last["text"] = last["text"].rstrip()
    return merged


def _blocks(message: ChatMessage) -> list[dict[str, Any]]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id or ""}
        return [{**result, "content": _text(message.content)}]
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": parse_json(call.arguments)}
        for call in message.tool_calls
    ]
    if message.role == "assistant" and message.state:
        return _with_state(message, calls) or _text(message.content) + calls
    if message.parts:
        return [block for part in message.parts for block in _part(part)]
    return _text(message.content) + calls


def _part(part: Part) -> list[dict[str, Any]]:
    """A part of a user's message; Anthropic's protocol has no recordings."""
    if isinstance(part, TextPart):
        return _text(part.text)
    if isinstance(part, DocumentPart):
        text = {"type": "text", "media_type": "text/plain", "data": part.text}
        document = {"type": "document", "source": text, "title": part.file_name}
        return [document] if part.text.strip() else _text(part.as_text())
    if isinstance(part, LinkPart):
        return [{"type": "image", "source": {"type": "url", "url": part.url}}]
    source = {"type": "base64", "media_type": part.media_type, "data": EncodedContent(part.content)}
    if part.kind == IMAGE:
        return [{"type": "image", "source": source}]
    return [{"type": "document", "source": source, "title": part.file_name}]


def _text(content: str) -> list[dict[str, Any]]:
    """A block of text; blank ones are refused."""
    return [{"type": "text", "text": content}] if content.strip() else []


# -- state ----------------------------------------------------------------------------------------------------


def _with_state(message: ChatMessage, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks as the server sent them, in their order; none where they are not those of this message."""
    sent: list[dict[str, Any]] = []
    remaining = iter(calls)
    for block in blocks_of(message):
        if block["type"] == "tool_use":
            sent.append({**block, **next(remaining)})
        elif block["type"] == "text":
            if as_text(block.get("text")).strip():
                sent.append({name: value for name, value in block.items() if value is not None})
        elif block["type"] not in _OWN:
            sent.append(block)
    return sent


def _closed(blocks: list[dict[str, Any]], *, is_last: bool) -> list[dict[str, Any]]:
    """An assistant's blocks without calls of the server's tools that have no result, results that have no call, and
    thinking at the end, which are refused.

    In the last message the result of the last call is still to come.
    """
    results = {as_text(block.get("tool_use_id")) for block in blocks}
    calls = {as_text(block.get("id")) for block in blocks if block["type"] in SERVER_CALLS}
    kept = []
    for block in blocks:
        if block["type"] in SERVER_CALLS:
            awaits_result = is_last and block is blocks[-1]
            is_kept = as_text(block.get("id")) in results or awaits_result
        else:
            is_kept = "tool_use_id" not in block or as_text(block["tool_use_id"]) in calls
        if is_kept:
            kept.append(block)
    while kept and kept[-1]["type"] in THINKING:
        kept.pop()
    return kept
