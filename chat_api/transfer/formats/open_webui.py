"""A chat of an export of Open WebUI: a tree in `chat.history.messages`, whose leaf is `currentId`.

Thoughts, which stand in the text as `<details type="reasoning">`, are left out. Of files a note stays.
"""

from collections.abc import Iterator
from typing import Any

from ..limits import MAX_NODES
from ..records import CONVERSATION, Fault, Record
from .assets import NO_ASSETS, Assets, SourceFile, file_in_url
from .message_tree import SourceConversation, SourceMessage, records_of
from .texts import first_string, flag, note, objects, storable, string, time_of

_REASONING_BEGIN, _END = '<details type="reasoning"', "</details>"


def is_conversation(source: dict[str, Any]) -> bool:
    """Whether it is a conversation of this format."""
    return isinstance(_history(source).get("messages"), dict)


def read_conversation(
    source: dict[str, Any], number: int, assets: Assets = NO_ASSETS
) -> Iterator[Record | Fault]:
    """The records of one chat, or its fault."""
    history, chat = _history(source), _chat(source)
    said = history.pop("messages")  # it is in memory once
    if len(said) > MAX_NODES:
        yield Fault(number, f"It has more than {MAX_NODES} messages.", kind=CONVERSATION)
        return
    messages = {key: _message(each, assets) for key, each in said.items()}
    for key, each in said.items():  # where a message does not say what it answers
        children = each.get("childrenIds") if isinstance(each, dict) else None
        for child in children if isinstance(children, list) else ():
            if (
                isinstance(child, str)
                and child in messages
                and messages[child].parent is None
                and child != key
            ):
                messages[child].parent = key
    own_id = first_string(source, "id") or first_string(chat, "id") or "\x1e".join(messages)
    created_at = source.get("created_at") or chat.get("created_at") or chat.get("timestamp")
    yield from records_of(
        SourceConversation(
            id=f"open-webui\x1f{own_id}",
            messages=messages,
            title=source.get("title") or chat.get("title"),
            archived=flag(source, "archived"),
            pinned=flag(source, "pinned"),
            created_at=time_of(created_at),
            updated_at=time_of(source.get("updated_at") or chat.get("updated_at")),
            leaf=history.get("currentId"),
        ),
        number,
    )


def _chat(source: dict[str, Any]) -> dict[str, Any]:
    """The chat itself, which may be alone, without what the database knows of it."""
    chat = source.get("chat")
    return chat if isinstance(chat, dict) else source


def _history(source: dict[str, Any]) -> dict[str, Any]:
    history = _chat(source).get("history")
    return history if isinstance(history, dict) else {}


def _message(said: Any, assets: Assets) -> SourceMessage:
    if not isinstance(said, dict):
        return SourceMessage(None)
    text, omitted = _text(said.get("content"))
    notes, named = [], []
    in_urls: dict[str, SourceFile] = {}  # pictures that were stored in the chat itself
    for file in objects(said.get("files")):
        inner = file.get("file")
        name = first_string(file, "name", "filename") or (
            first_string(inner, "filename", "name") if isinstance(inner, dict) else ""
        )
        kind = "image" if string(file.get("type")).startswith("image") else "file"
        notes.append(note(kind, name or first_string(file, "id")))
        named.append((first_string(file, "id"), name))
        if (found := file_in_url(string(file.get("url")), name)) is not None:
            in_urls.setdefault(found.id, found)
            file.clear()  # it is in memory once
    parent = said.get("parentId")
    return SourceMessage(
        parent if isinstance(parent, str) else None,
        string(said.get("role")),
        "\n".join(filter(None, (text, *notes))),
        time_of(said.get("timestamp")),
        omitted=omitted,
        files=[*assets.files(named), *in_urls.values()],
    )


def _text(content: Any) -> tuple[str, int]:
    """The text of a message, and how many parts of it were not understood."""
    if isinstance(content, str):
        return storable(without_reasoning(content)), 0
    texts, omitted = [], 0
    for part in objects(content):
        if isinstance(part.get("text"), str):
            texts.append(storable(part["text"]))
        elif string(part.get("type")).startswith("image"):
            texts.append(note("image", ""))
        else:
            texts.append(note("not imported", string(part.get("type"))))
            omitted += 1
    return "\n".join(texts), omitted


def without_reasoning(text: str) -> str:
    """The text without what the model was thinking. One pass: each search goes on where the last one ended."""
    kept, offset = [], 0
    while (begin := text.find(_REASONING_BEGIN, offset)) >= 0:
        end = text.find(_END, begin)
        if end < 0:
            break
        kept.append(text[offset:begin])
        offset = end + len(_END)
    kept.append(text[offset:])
    return "".join(kept).strip() if offset else text
