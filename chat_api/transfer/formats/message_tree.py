"""A conversation of another product as records of ours: its tree of messages with branches.

Each format reads its own file into these classes. Messages that say nothing are left out, and what answers them
answers the next message above that is kept. The same conversation always gets the same ids, and one that has grown
gets those that it had, so that a later export of it continues the earlier one.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...messages.models import ROLES
from ...messages.schemas import MAX_CONTENT_BYTES
from ..limits import MAX_NODES
from ..records import ATTACHMENT, CONVERSATION, MESSAGE, Fault, Record
from .assets import SourceFile
from .ids import EPOCH, IdsBelow
from .texts import storable

TITLE_LENGTH = 255
MAX_CALL_TEXT = 255  # characters of a call's id and name


@dataclass(slots=True)
class SourceCall:
    """A tool call of a message."""

    id: str
    name: str
    arguments: str

    def to_json(self) -> dict[str, str]:
        """The call as a message stores it."""
        return {
            "id": self.id[:MAX_CALL_TEXT],
            "name": self.name[:MAX_CALL_TEXT],
            "arguments": self.arguments,
        }


@dataclass(slots=True)
class SourceMessage:
    """A message of the file, or what is only a link between others."""

    parent: str | None
    role: str = "assistant"
    text: str = ""
    created_at: datetime | None = None
    calls: list[SourceCall] = field(default_factory=list)
    call_id: str | None = None  # of a tool's message, the call that it answers
    omitted: int = 0  # parts that were not understood
    files: list[SourceFile] = field(default_factory=list)

    @property
    def says_something(self) -> bool:
        """Whether it is kept."""
        return bool(self.text.strip() or self.calls or self.call_id)

    @property
    def size_bytes(self) -> int:
        """How many bytes it takes in the database."""
        return len(self.text.encode()) + sum(len(call.arguments.encode()) for call in self.calls)


@dataclass(slots=True)
class SourceConversation:
    """A conversation of the file; `messages` have keys that are unique in it."""

    id: str
    messages: dict[str, SourceMessage]
    title: Any = None
    archived: bool | None = None  # of these three None says that the file does not have it
    pinned: bool | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    leaf: Any = None


def records_of(source: SourceConversation, number: int) -> Iterator[Record | Fault]:
    """The records of a conversation: itself and its messages, parents first; or its fault."""
    if len(source.messages) > MAX_NODES:
        yield Fault(number, f"It has more than {MAX_NODES} nodes.", kind=CONVERSATION)
        return
    ids = IdsBelow(source.id)
    tree = _Tree(source.messages)
    times = [moment for key in tree.kept if (moment := tree.time_of(key)) is not None]
    # of what stays the same when the conversation grows
    began_at = source.created_at or min(times, default=EPOCH)
    made_at = source.created_at or min(times, default=source.updated_at or EPOCH)
    conversation_id = ids.at(began_at)
    for key in tree.kept:
        if source.messages[key].size_bytes > MAX_CONTENT_BYTES:
            detail = f"A message of it is longer than {MAX_CONTENT_BYTES} bytes."
            yield Fault(number, detail, kind=CONVERSATION, conversation_id=conversation_id)
            return
    ordered = _in_order(tree, began_at)
    message_ids = {key: ids.at(moment, key) for key, moment in ordered}
    leaf = tree.kept_above(source.leaf)
    yield Record(
        number,
        CONVERSATION,
        {
            "id": conversation_id,
            "title": title_of(source.title),
            "archived": source.archived,
            "pinned": source.pinned,
            "client_metadata": None,
            "source": "import",
            "active_leaf_id": message_ids.get(leaf) if leaf is not None else None,
            "last_position": 0,
            "created_at": made_at,
            "updated_at": source.updated_at or max((moment for _, moment in ordered), default=made_at),
        },
    )
    for position, (key, moment) in enumerate(ordered, 1):
        message, parent = source.messages[key], tree.parent_of(key)
        yield Record(
            number,
            MESSAGE,
            {
                "id": message_ids[key],
                "conversation_id": conversation_id,
                "parent_id": message_ids[parent] if parent is not None else None,
                "position": position,
                "role": message.role if message.role in ROLES else "assistant",
                "content": message.text,
                "status": "completed",
                "created_at": moment if moment > EPOCH else made_at,
                **_tool_fields(message),
            },
            size_bytes=message.size_bytes,
            omitted=message.omitted,
        )
        for file in message.files:
            file_id = ids.at(moment, key, "file", file.id)
            yield Record(number, ATTACHMENT, _attachment(file, file_id, message_ids[key], moment, made_at))


def _attachment(
    file: SourceFile, id_: str, message_id: str, moment: datetime, made_at: datetime
) -> dict[str, Any]:
    """What type it is, and so its path, is known when it was read."""
    return {
        "id": id_,
        "message_id": message_id,
        "file_type": "",
        "file_path": "",
        "file_name": file.name,
        "member": file.member,
        "data": file.data,
        "created_at": moment if moment > EPOCH else made_at,
    }


def _tool_fields(message: SourceMessage) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if message.calls and message.role == "assistant":
        fields["tool_calls"] = [call.to_json() for call in message.calls]
    if message.call_id and message.role == "tool":
        fields["tool_call_id"] = message.call_id[:MAX_CALL_TEXT]
    return fields


def title_of(title: Any) -> str | None:
    """A title that can be stored, if there is one."""
    text = storable(title).strip() if isinstance(title, str) else ""
    return text[:TITLE_LENGTH] or None


class _Tree:
    """The messages of a conversation: who answers whom, and which of them are kept."""

    def __init__(self, messages: dict[str, SourceMessage]) -> None:
        self._messages = messages
        self.kept = [
            key for key, message in messages.items() if message.says_something
        ]  # in the file's order
        self._is_kept = set(self.kept)
        self._above = self._nearest_kept()

    def parent_of(self, key: str) -> str | None:
        """The nearest kept message above a kept one."""
        return self._above[key]

    def kept_above(self, key: Any) -> str | None:
        """The nearest kept message at or above this one, None where there is none."""
        seen = set()
        while isinstance(key, str) and key in self._messages and key not in seen:
            if key in self._is_kept:
                return key
            seen.add(key)
            key = self._messages[key].parent
        return None

    def time_of(self, key: str) -> datetime | None:
        """When it was said, where the file says so."""
        return self._messages[key].created_at

    def _nearest_kept(self) -> dict[str, str | None]:
        """For each message the nearest kept one above it; each is looked at once, however deep the tree is.

        Where messages go round in a circle, the one that is met first has nothing above it.
        """
        above: dict[str, str | None] = {}
        for key in self._messages:
            way: list[str] = []
            on_way: set[str] = set()
            current: str | None = key
            while current is not None and current not in above and current not in on_way:
                way.append(current)
                on_way.add(current)
                parent = self._messages[current].parent
                current = parent if parent in self._messages else None
            nearest = None
            if current is not None and current in above:
                nearest = current if current in self._is_kept else above[current]
            for passed in reversed(way):
                above[passed] = nearest
                if passed in self._is_kept:
                    nearest = passed
        return above


def _in_order(tree: _Tree, began_at: datetime) -> list[tuple[str, datetime]]:
    """The kept messages with their times, parents before what answers them, and otherwise by time."""
    order = {key: index for index, key in enumerate(tree.kept)}
    children: dict[str | None, list[str]] = {}
    for key in tree.kept:
        children.setdefault(tree.parent_of(key), []).append(key)
    ready: list[tuple[datetime, int, str]] = []

    def open_up(keys: Iterable[str], moment: datetime) -> None:
        for key in keys:
            heapq.heappush(ready, (tree.time_of(key) or moment, order[key], key))

    open_up(children.get(None, ()), began_at)
    ordered = []
    while ready:
        moment, _, key = heapq.heappop(ready)
        ordered.append((key, moment))
        open_up(children.get(key, ()), moment)
    return ordered
