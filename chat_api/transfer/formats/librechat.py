"""A conversation of an export of LibreChat: `messages` in a list, or nested in `children` where it is recursive.

Calls of tools become calls with their results. Thoughts are left out; of files a note stays.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ..limits import MAX_NODES
from ..records import CONVERSATION, Fault, Record
from .assets import NO_ASSETS, Assets
from .ids import EPOCH
from .message_tree import SourceConversation, SourceMessage, records_of
from .texts import first_string, flag, note, objects, storable, string, time_of
from .tool_calls import Call, Part, Replies, Result, Text, arguments_of, messages_of

_UNSAID = {"think", "thinking", "reasoning", "agent_update", "summary"}


def is_conversation(source: dict[str, Any]) -> bool:
    """Whether it is a conversation of this format."""
    messages = source.get("messages", source.get("messagesTree"))
    if not isinstance(messages, list):
        return False
    return isinstance(source.get("conversationId"), str) or any(
        "messageId" in each or "parentMessageId" in each for each in objects(messages[:1])
    )


def read_conversation(
    source: dict[str, Any], number: int, assets: Assets = NO_ASSETS
) -> Iterator[Record | Fault]:
    """The records of one conversation, or its fault."""
    replies = Replies()
    newest: tuple[datetime, str] = EPOCH, ""
    for count, (each, above) in enumerate(_flat(source), 1):
        if count > MAX_NODES:
            yield Fault(number, f"It has more than {MAX_NODES} messages.", kind=CONVERSATION)
            return
        key = first_string(each, "messageId", "id") or f"message {count}"
        each["messageId"] = key  # for its children
        if key not in replies:
            parent = string(each.get("parentMessageId")) or (
                first_string(above, "messageId") if above else ""
            )
            replies.add(key, parent or None, _messages(each, assets))
            moment = time_of(each.get("createdAt"))
            if moment is not None and moment >= newest[0]:
                newest = moment, key
    own_id = first_string(source, "conversationId") or "\x1e".join(replies.ends)
    options = source.get("options")
    created_at = source.get("createdAt") or (options.get("createdAt") if isinstance(options, dict) else None)
    yield from records_of(
        SourceConversation(
            id=f"librechat\x1f{own_id}",
            messages=replies.finish(),
            title=source.get("title"),
            archived=flag(source, "isArchived"),
            created_at=time_of(created_at),
            updated_at=time_of(source.get("updatedAt")),
            leaf=replies.ends.get(newest[1]) or next(reversed(replies.ends.values()), None),
        ),
        number,
    )


def _flat(source: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """All messages with the one that each is nested in, parents first, without recursion."""
    listed = source.get("messages", source.get("messagesTree"))
    left: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
        (each, None) for each in reversed(objects(listed))
    ]
    while left:
        each, above = left.pop()
        yield each, above
        left += [(child, each) for child in reversed(objects(each.get("children")))]


def _messages(said: dict[str, Any], assets: Assets) -> list[SourceMessage]:
    """The messages that one of the file becomes."""
    is_user = said.get("isCreatedByUser")
    role = (
        "user"
        if is_user is True or (is_user is None and string(said.get("sender")) == "User")
        else "assistant"
    )
    parts, omitted = _parts(said.get("content"))
    text = string(said.get("text"))
    if not parts and text.strip():
        parts = [Text(storable(text))]
    files = (*objects(said.get("files")), *objects(said.get("attachments")))
    for file in files:
        name = first_string(file, "filename", "name", "file_id")
        if name:
            kind = "image" if string(file.get("type")).startswith("image") else "file"
            parts.append(Text(note(kind, name)))
    made = messages_of(role, parts, created_at=time_of(said.get("createdAt")), omitted=omitted)
    made[0].files = assets.files(
        (first_string(file, "file_id"), first_string(file, "filename", "name")) for file in files
    )
    return made


def _parts(content: Any) -> tuple[list[Part], int]:
    """The parts of a message, and how many of them were not understood."""
    parts: list[Part] = []
    omitted = 0
    for block in objects(content):
        kind = string(block.get("type"))
        if kind in ("text", "error"):
            text = block.get("text", block.get("error"))
            text = string(text.get("value")) if isinstance(text, dict) else string(text)
            if text.strip():
                parts.append(Text(storable(text)))
        elif kind == "tool_call" and isinstance(block.get("tool_call"), dict):
            parts += _call(block["tool_call"])
        elif kind in ("image_file", "image_url"):
            parts.append(Text(note("image", first_string(_inner(block, kind), "filename", "file_id"))))
        elif kind not in _UNSAID:
            parts.append(Text(note("not imported", kind)))
            omitted += 1
    return parts, omitted


def _inner(block: dict[str, Any], kind: str) -> dict[str, Any]:
    inner = block.get(kind)
    return inner if isinstance(inner, dict) else {}


def _call(call: dict[str, Any]) -> list[Part]:
    """A call, and its result where there is one."""
    inner = _inner(call, "function") or call
    call_id = storable(string(call.get("id")))
    arguments = arguments_of(inner.get("args", inner.get("arguments")))
    parts: list[Part] = [Call(call_id, storable(string(inner.get("name"))), arguments)]
    output = inner.get("output")
    if output is not None:
        parts.append(Result(call_id, storable(output) if isinstance(output, str) else arguments_of(output)))
    return parts
