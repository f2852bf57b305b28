"""A conversation of an export of Claude: `chat_messages`, in a row or, with `parent_message_uuid`, in a tree.

The format is not documented; this goes by what exports hold. Thoughts are left out. What was extracted from an
attachment becomes part of its message, as Claude was given it; of other files a note stays.
"""

from collections.abc import Iterator
from typing import Any

from ...messages.schemas import MAX_CONTENT_BYTES
from ..limits import MAX_NODES
from ..records import CONVERSATION, Fault, Record
from .assets import NO_ASSETS, Assets
from .message_tree import SourceConversation, SourceMessage, records_of
from .texts import first_string, flag, note, objects, storable, string, time_of
from .tool_calls import Call, Part, Replies, Result, Text, arguments_of, messages_of

_ROLES = {"human": "user", "user": "user", "assistant": "assistant", "system": "system", "tool": "tool"}
# the model's reasoning, and what counts tokens
_UNSAID = {"thinking", "redacted_thinking", "token_budget", "flag"}
_NOTES_BYTES = 16 * 1024  # that the notes of files without text have to themselves
_CUT = "\n[cut off here: the text is too long]"


def is_conversation(source: dict[str, Any]) -> bool:
    """Whether it is a conversation of this format."""
    return isinstance(source.get("chat_messages"), list)


def read_conversation(
    source: dict[str, Any], number: int, assets: Assets = NO_ASSETS
) -> Iterator[Record | Fault]:
    """The records of one conversation, or its fault."""
    if len(source["chat_messages"]) > MAX_NODES:
        yield Fault(number, f"It has more than {MAX_NODES} messages.", kind=CONVERSATION)
        return
    replies = _replies(source, assets)
    leaf = string(source.get("current_leaf_message_uuid"))
    newest = next(reversed(replies.ends.values()), None)
    own_id = first_string(source, "uuid", "id") or "\x1e".join(replies.ends)
    yield from records_of(
        SourceConversation(
            id=f"claude\x1f{own_id}",
            messages=replies.finish(),
            title=source.get("name") or source.get("title"),
            pinned=flag(source, "is_starred"),
            created_at=time_of(source.get("created_at")),
            updated_at=time_of(source.get("updated_at")),
            leaf=replies.ends.get(leaf, newest),
        ),
        number,
    )


def _replies(source: dict[str, Any], assets: Assets) -> Replies:
    """The messages; without `parent_message_uuid` each answers the one before it."""
    replies = Replies()
    said = objects(source["chat_messages"])
    source["chat_messages"] = ()  # it is in memory once
    has_tree = any(string(each.get("parent_message_uuid")) for each in said)
    previous: str | None = None
    for index, each in enumerate(said, 1):
        key = first_string(each, "uuid", "id") or f"message {index}"
        if key not in replies:
            parent = string(each.get("parent_message_uuid")) or None if has_tree else previous
            replies.add(key, parent, _messages(each, assets))
            previous = key
        each.clear()
    return replies


def _messages(said: dict[str, Any], assets: Assets) -> list[SourceMessage]:
    """The messages that one of the file becomes; its files that are in the zip belong to the first one."""
    created_at = time_of(said.get("created_at"))
    role = _ROLES.get(string(said.get("sender")), "assistant")
    parts, omitted = _parts(said.get("content"))
    text = string(said.get("text"))
    if not parts and text.strip():
        parts = [Text(storable(text))]
    size_bytes = sum(len(part.text.encode()) for part in parts if isinstance(part, Text))
    notes, cut = _files(said, MAX_CONTENT_BYTES - size_bytes)
    files: list[Part] = list(map(Text, notes))
    # a user's files come first, as Claude was given them
    parts = [*parts, *files] if role == "assistant" else [*files, *parts]
    made = messages_of(role, parts, created_at=created_at, omitted=omitted + cut)
    named = (*objects(said.get("attachments")), *objects(said.get("files")), *objects(said.get("files_v2")))
    made[0].files = assets.files(  # Claude's own exports have only their names
        (first_string(file, "file_uuid", "uuid", "id"), first_string(file, "file_name", "name"))
        for file in named
    )
    return made


def _parts(content: Any) -> tuple[list[Part], int]:
    """The parts of a message, and how many of them were not understood."""
    parts: list[Part] = []
    omitted = 0
    for block in objects(content):
        kind = string(block.get("type"))
        if kind == "text":
            if string(block.get("text")).strip():
                parts.append(Text(storable(block["text"])))
        elif kind == "tool_use":
            name = storable(string(block.get("name")))
            parts.append(Call(storable(string(block.get("id"))), name, arguments_of(block.get("input"))))
        elif kind == "tool_result":
            text, unknown = _result(block.get("content"))
            parts.append(Result(storable(string(block.get("tool_use_id"))), text))
            omitted += unknown
        elif kind not in _UNSAID:
            parts.append(Text(note("not imported", kind)))
            omitted += 1
    return parts, omitted


def _result(content: Any) -> tuple[str, int]:
    """The text of a tool's result, and how many parts of it were not understood."""
    if isinstance(content, str):
        return storable(content), 0
    texts, omitted = [], 0
    for block in objects(content):
        if isinstance(block.get("text"), str):
            texts.append(storable(block["text"]))
        elif string(block.get("type")) == "knowledge":  # a page that was found
            texts.append(
                " ".join(filter(None, (storable(string(block.get(name))) for name in ("title", "url"))))
            )
        else:
            texts.append(note("not imported", string(block.get("type"))))
            omitted += 1
    return "\n".join(filter(None, texts)), omitted


def _files(said: dict[str, Any], room_bytes: int) -> tuple[list[str], int]:
    """A text for each file of a message, together of so many bytes; and how many were cut off."""
    texts, cut = [], 0
    seen = set()
    for attached in objects(said.get("attachments")):
        name = first_string(attached, "file_name", "name")
        extracted = storable(string(attached.get("extracted_content")))
        text = note("file", name) + (f"\n{extracted}" if extracted.strip() else "")
        seen.add(name)
        encoded = text.encode()
        if len(encoded) > room_bytes - _NOTES_BYTES:
            text = encoded[: max(room_bytes - _NOTES_BYTES, 0)].decode(errors="ignore") + _CUT
            cut += 1
        room_bytes -= len(text.encode()) + 2
        texts.append(text)
    for file in (*objects(said.get("files")), *objects(said.get("files_v2"))):
        name = first_string(file, "file_name", "name", "file_uuid")
        if name and name not in seen:
            seen.add(name)
            texts.append(note("file", name))
    return texts, cut
