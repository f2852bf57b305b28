"""A conversation of a ChatGPT export as records of ours: its tree of nodes becomes messages with branches.

The format is not documented; this goes by what exports hold. Nodes without anything to show are left out, and what
answers them answers the next node above that is kept.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from ...messages.models import ROLES
from ...messages.schemas import MAX_CONTENT_BYTES
from ..limits import MAX_NODES
from ..records import CONVERSATION, MESSAGE, Fault, Record
from .ids import EPOCH, IdsBelow

UNTITLED = "Untitled"
TITLE_LENGTH = 255
_LATEST_S = 253_370_764_800  # the year 9999
# the model's reasoning, and what it was given about its user: no part of the conversation
_UNSAID = {"thoughts", "reasoning_recap", "user_editable_context", "model_editable_context"}
_NOTES = {"image": "image", "audio": "audio", "video": "video", "real": "audio"}


def read_conversation(source: Any, number: int) -> Iterator[Record | Fault]:
    """The records of one conversation of an export: itself and its messages, parents first; or its fault.

    The source is taken apart, so that its texts are in memory once.
    """
    if not isinstance(source, dict) or not isinstance(source.get("mapping"), dict):
        yield Fault(
            number, "It is no conversation of a ChatGPT export: it has no `mapping`.", kind=CONVERSATION
        )
        return
    if len(source["mapping"]) > MAX_NODES:
        yield Fault(number, f"It has more than {MAX_NODES} nodes.", kind=CONVERSATION)
        return
    ids = IdsBelow(_source_id(source))
    tree = _Tree(source["mapping"])
    made_at = _first_time(source.get("create_time"), *tree.times(), source.get("update_time"))
    conversation_id = ids.at(made_at)
    for node_id in tree.kept:
        if len(tree.texts[node_id].encode()) > MAX_CONTENT_BYTES:
            detail = f"A message of it is longer than {MAX_CONTENT_BYTES} bytes."
            yield Fault(number, detail, kind=CONVERSATION, conversation_id=conversation_id)
            return
    ordered = _in_order(tree, made_at)
    message_ids = {node: ids.at(moment, node) for node, moment in ordered}
    leaf = tree.kept_above(source.get("current_node"))
    updated_at = _time(source.get("update_time")) or max((moment for _, moment in ordered), default=made_at)
    yield Record(
        number,
        CONVERSATION,
        {
            "id": conversation_id,
            "title": _title(source.get("title")),
            "archived": source.get("is_archived") is True,
            "pinned": source.get("is_starred") is True,
            "active_leaf_id": message_ids.get(leaf) if leaf is not None else None,
            "last_position": 0,
            "created_at": made_at,
            "updated_at": updated_at,
        },
    )
    for position, (node, moment) in enumerate(ordered, 1):
        parent = tree.parent_of(node)
        yield Record(
            number,
            MESSAGE,
            {
                "id": message_ids[node],
                "conversation_id": conversation_id,
                "parent_id": message_ids[parent] if parent is not None else None,
                "position": position,
                "role": tree.role_of(node),
                "content": tree.texts[node],
                "status": "completed",
                "created_at": moment,
            },
            size_bytes=len(tree.texts[node]),
        )


class _Tree:
    """The nodes of a conversation: who answers whom, and which of them say something."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        self._messages = {key: _message(node) for key, node in mapping.items()}
        self._parents = _parents(mapping)
        self.texts: dict[str, str] = {}
        for key, message in self._messages.items():
            if text := _visible_text(message):
                self.texts[key] = text
            message.pop("content", None)  # a conversation may be all that there is room for, and once
        self.kept = list(self.texts)  # in the order of the file
        self._above = self._nearest_kept()

    def parent_of(self, node: str) -> str | None:
        """The nearest kept node above a kept one."""
        return self._above[node]

    def kept_above(self, node: Any) -> str | None:
        """The nearest kept node at or above this one, None where there is none."""
        seen = set()
        while isinstance(node, str) and node in self._parents and node not in seen:
            if node in self.texts:
                return node
            seen.add(node)
            node = self._parents[node]
        return None

    def role_of(self, node: str) -> str:
        """One of our roles; a name that is not known belongs to the model's side."""
        author = self._messages[node].get("author")
        role = author.get("role") if isinstance(author, dict) else None
        return role if role in ROLES else "assistant"

    def time_of(self, node: str) -> datetime | None:
        """When it was said, where the file says so."""
        return _time(self._messages[node].get("create_time"))

    def times(self) -> Iterator[Any]:
        """The times of all that is kept, in the order of the file."""
        return (self._messages[node].get("create_time") for node in self.kept)

    def _nearest_kept(self) -> dict[str, str | None]:
        """For each node the nearest kept one above it; each is looked at once, however deep the tree is.

        Where nodes go round in a circle, the one that is met first has nothing above it.
        """
        above: dict[str, str | None] = {}
        for node in self._parents:
            way: list[str] = []
            on_way: set[str] = set()
            current: str | None = node
            while current is not None and current not in above and current not in on_way:
                way.append(current)
                on_way.add(current)
                current = self._parents[current]
            nearest = None
            if current is not None and current in above:
                nearest = current if current in self.texts else above[current]
            for passed in reversed(way):
                above[passed] = nearest
                if passed in self.texts:
                    nearest = passed
        return above


def _message(node: Any) -> dict[str, Any]:
    message = node.get("message") if isinstance(node, dict) else None
    return message if isinstance(message, dict) else {}


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


def _in_order(tree: _Tree, made_at: datetime) -> list[tuple[str, datetime]]:
    """The kept nodes with their times, parents before what answers them, and otherwise by time."""
    order = {node: index for index, node in enumerate(tree.kept)}
    children: dict[str | None, list[str]] = {}
    for node in tree.kept:
        children.setdefault(tree.parent_of(node), []).append(node)
    ready: list[tuple[datetime, int, str]] = []

    def open_up(nodes: Iterable[str], moment: datetime) -> None:
        for node in nodes:
            heapq.heappush(ready, (tree.time_of(node) or moment, order[node], node))

    open_up(children.get(None, ()), made_at)
    ordered = []
    while ready:
        moment, _, node = heapq.heappop(ready)
        ordered.append((node, moment))
        open_up(children.get(node, ()), moment)
    return ordered


# -- what a message says -------------------------------------------------------------------------------------


def _visible_text(message: Mapping[str, Any]) -> str:
    """The text of a message; empty for one that was never visible."""
    metadata = message.get("metadata")
    if isinstance(metadata, dict) and metadata.get("is_visually_hidden_from_conversation") is True:
        return ""
    content = message.get("content")
    if not isinstance(content, dict) or _string(content.get("content_type")) in _UNSAID:
        return ""
    parts = content.get("parts")
    if not isinstance(parts, list):
        parts = [content.get("text") or content.get("result")]
    texts = [text for part in parts if (text := _text_of_part(part))]
    text = "\n".join(texts)
    return text if text.strip() else ""


def _text_of_part(part: Any) -> str:
    """A part as text; of a file that is not in the text, a note that it was there."""
    if isinstance(part, str):
        return storable(part)
    if not isinstance(part, dict):
        return ""
    if isinstance(part.get("text"), str):  # of what was spoken
        return storable(part["text"])
    pointer = part.get("asset_pointer")
    if not isinstance(pointer, str):
        sound = part.get("audio_asset_pointer")
        pointer = sound.get("asset_pointer") if isinstance(sound, dict) else None
    if not isinstance(pointer, str):
        return ""
    kind = _NOTES.get(_string(part.get("content_type")).partition("_")[0], "file")
    return f"[{kind}: {storable(pointer.rpartition('://')[2])}]"


def _string(value: Any) -> str:
    """A value that should be a string: empty where it is not one."""
    return value if isinstance(value, str) else ""


def storable(text: str) -> str:
    """The text without what no database holds: NUL is dropped, half a surrogate pair becomes U+FFFD."""
    text = text.replace("\x00", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _title(title: Any) -> str:
    text = storable(title).strip() if isinstance(title, str) else ""
    return text[:TITLE_LENGTH] or UNTITLED


def _source_id(source: Mapping[str, Any]) -> str:
    """What the export calls it; of one without an id, what is in it."""
    for name in ("conversation_id", "id"):
        if isinstance(source.get(name), str) and source[name]:
            return source[name]
    return "\x1e".join(source["mapping"])


def _time(seconds: Any) -> datetime | None:
    """A time that is given as seconds since 1970."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < _LATEST_S:
        return None
    return EPOCH + timedelta(microseconds=round(seconds * 1_000_000))


def _first_time(preferred: Any, *others: Any) -> datetime:
    """The preferred time, else the earliest of the others, else 1970: always the same for the same file."""
    moment = _time(preferred)
    if moment is None:
        moment = min((found for seconds in others if (found := _time(seconds))), default=EPOCH)
    return moment
