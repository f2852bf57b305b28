"""A conversation of a ChatGPT export: the tree of nodes in `mapping`, whose leaf is `current_node`.

The format is not documented; this goes by what exports hold. What was never visible is left out, and so are thoughts.
Of files, and of parts that are not understood, a note stays.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ..limits import MAX_NODES
from ..records import CONVERSATION, Fault, Record
from .assets import NO_ASSETS, Assets, SourceFile
from .chatgpt_citations import with_links
from .message_tree import SourceConversation, SourceMessage, records_of
from .texts import first_string, flag, note, objects, storable, string, time_of

# the model's reasoning, and what it was given about its user: no part of the conversation
_UNSAID = {"thoughts", "reasoning_recap", "user_editable_context", "model_editable_context"}
# content that is its text, and nothing where that is empty
_TEXTS = {"", "text", "code", "execution_output", "multimodal_text", "system_error", "tether_browsing_display",
          "tether_browsing_code", "tether_quote", "citable_code_output", "sonic_webpage", "super_widget"}  # fmt: skip
_NOTES = {"image": "image", "audio": "audio", "video": "video", "real": "audio"}


def is_conversation(source: dict[str, Any]) -> bool:
    """Whether it is a conversation of this format."""
    return isinstance(source.get("mapping"), dict)


def read_conversation(
    source: dict[str, Any], number: int, assets: Assets = NO_ASSETS
) -> Iterator[Record | Fault]:
    """The records of one conversation, or its fault. The source is taken apart: its texts are in memory once."""
    mapping = source["mapping"]
    if len(mapping) > MAX_NODES:
        yield Fault(number, f"It has more than {MAX_NODES} nodes.", kind=CONVERSATION)
        return
    own_id = first_string(source, "conversation_id", "id") or "\x1e".join(mapping)
    parents = _parents(mapping)
    yield from records_of(
        SourceConversation(
            id=own_id,
            messages={key: _message(node, parents[key], assets) for key, node in mapping.items()},
            title=source.get("title"),
            archived=flag(source, "is_archived"),
            pinned=flag(source, "is_starred"),
            created_at=time_of(source.get("create_time")),
            updated_at=time_of(source.get("update_time")),
            leaf=source.get("current_node"),
        ),
        number,
    )


def _message(node: Any, parent: str | None, assets: Assets) -> SourceMessage:
    """The message of a node, whose content is not kept: a conversation may be all that there is room for, and once."""
    said = node.get("message") if isinstance(node, dict) else None
    if not isinstance(said, dict):
        return SourceMessage(parent)
    author = said.get("author")
    role = string(author.get("role")) if isinstance(author, dict) else ""
    found = _Files(assets, said.get("metadata"))
    text, omitted = _visible_text(said, found)
    said.pop("content", None)
    moment = time_of(said.get("create_time"))
    return SourceMessage(parent, role, text, moment, omitted=omitted, files=list(found.files.values()))


def _parents(mapping: Mapping[str, Any]) -> dict[str, str | None]:
    """The parent of each node: as it says itself, else as the parent's list of children has it."""
    parents: dict[str, str | None] = dict.fromkeys(mapping)
    for key, node in mapping.items():
        children = node.get("children") if isinstance(node, dict) else None
        for child in children if isinstance(children, list) else ():
            if isinstance(child, str) and child in parents and child != key:
                parents[child] = key
    for key, node in mapping.items():
        parent = node.get("parent") if isinstance(node, dict) else None
        if isinstance(parent, str) and parent in parents and parent != key:
            parents[key] = parent
    return parents


# -- what a message says -------------------------------------------------------------------------------------


class _Files:
    """The files of a message: what it calls them, and those that are in the zip."""

    def __init__(self, assets: Assets, metadata: Any) -> None:
        attached = metadata.get("attachments") if isinstance(metadata, dict) else None
        self.names = {string(each.get("id")): first_string(each, "name", "id") for each in objects(attached)}
        self.files: dict[str, SourceFile] = {}  # by what they are called in the zip
        self._assets = assets

    def take(self, file_id: str) -> str:
        """The name that the message has for a file. One that is in the zip becomes an attachment."""
        name = self.names.pop(file_id, "")
        if asset := self._assets.by_id(file_id):
            self.files.setdefault(asset.member, SourceFile(file_id, asset.member, name or asset.name))
        return name


def _visible_text(message: Mapping[str, Any], found: _Files) -> tuple[str, int]:
    """The text of a message, empty for one that was never visible; and how many parts were not understood."""
    metadata = message.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    if metadata.get("is_visually_hidden_from_conversation") is True:
        return "", 0
    text, omitted = _text_of(message.get("content"), found)
    text = with_links(text, metadata)
    files = [
        note("file", name) for id_ in list(found.names) if (name := found.take(id_))
    ]  # that no part has named
    text = "\n".join(filter(None, (text if text.strip() else "", *files)))
    return text, omitted


def _text_of(content: Any, found: _Files) -> tuple[str, int]:
    """The text of a content, and how many of its parts were not understood. Files that it names are taken."""
    if not isinstance(content, dict):
        return "", 0
    kind = string(content.get("content_type"))
    if kind in _UNSAID:
        return "", 0
    parts = content.get("parts")
    if not isinstance(parts, list):
        parts = [content.get("text") or content.get("result")]
        if kind not in _TEXTS and not parts[0]:
            return note("not imported", kind), 1
    texts, omitted = [], 0
    for part in parts:
        text, is_known = _text_of_part(part, found)
        omitted += not is_known
        if text:
            texts.append(text)
    return "\n".join(texts), omitted


def _text_of_part(part: Any, found: _Files) -> tuple[str, bool]:
    """A part as text, and whether it was understood. Of a file that is not in the text, a note that it was there.

    The note is the same whether or not the file is in the zip: so a message is the same with each export.
    """
    if isinstance(part, str):
        return storable(part), True
    if part is None:
        return "", True
    if not isinstance(part, dict):
        return note("not imported", type(part).__name__), False
    if isinstance(part.get("text"), str):  # of what was spoken
        return storable(part["text"]), True
    kind = string(part.get("content_type"))
    pointer = part.get("asset_pointer")
    if not isinstance(pointer, str):
        sound = part.get("audio_asset_pointer")
        pointer = sound.get("asset_pointer") if isinstance(sound, dict) else None
    if not isinstance(pointer, str):
        return note("not imported", kind or "part"), False
    file_id = pointer.rpartition("://")[2]
    name = found.take(file_id) or file_id
    return note(_NOTES.get(kind.partition("_")[0], "file"), name), True
