"""Repairs what a conversation's row says of its messages, where somebody wrote messages without keeping it up to date:
a release from before a column, or a person with SQL.

The messages are the truth: their positions, their parents, and the marks of the active path. The row's counters and
its active leaf follow from them. What every append checks costs it a look at two rows; `inspect` reads all messages of
a conversation, without their contents.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..conversations.models import Conversation
from ..database import statements
from ..database.parameters import CONVERSATION_ID, MESSAGE_ID, USER_ID, given, named_new, new
from ..database.statements import Statement
from ..errors import NotFound
from .conditions import IN_CONVERSATION, IS_COUNTED, ON_PATH, THIS_CONVERSATION
from .models import Message

# kinds of findings
LAST_POSITION = "last_position"
MESSAGE_COUNT = "message_count"
ACTIVE_PATH = "active_path"
PATH_LENGTH = "path_length"
CONTENT_BYTES = "content_bytes"
KINDS = (LAST_POSITION, MESSAGE_COUNT, ACTIVE_PATH, PATH_LENGTH, CONTENT_BYTES)

log = logging.getLogger(__name__)

_greatest_position = sa.select(sa.func.max(Message.position)).where(*IN_CONVERSATION).scalar_subquery()
_leaf = sa.select(Message.id).where(Message.user_id == USER_ID, Message.id == Conversation.active_leaf_id)
_end_of_path = (
    sa.select(Message.id).where(*IN_CONVERSATION, ON_PATH).order_by(Message.position.desc()).limit(1)
)

# for the WHERE of an append: the next position is free, the new message's parent is there, and the length of the path
# is known. Where another append was waited for, Postgres looks for the leaf as of before that and finds none.
CAN_APPEND = sa.and_(
    Conversation.last_position >= sa.func.coalesce(_greatest_position, 0),
    sa.or_(
        Conversation.active_leaf_id.is_(None),
        _leaf.correlate(Conversation).scalar_subquery().is_not(None),
    ),
    IS_COUNTED,
)
_own = (Conversation.user_id == USER_ID, Conversation.id == CONVERSATION_ID)
_LOCK_VISIBLE = Statement(sa.select(Conversation.id).where(*THIS_CONVERSATION).with_for_update())
_PROBE = Statement(
    sa.select(
        Conversation.last_position >= sa.func.coalesce(_greatest_position, 0),
        Conversation.active_leaf_id.is_not_distinct_from(_end_of_path.scalar_subquery()),
        IS_COUNTED,
    ).where(*_own)
)
_ROW_COLUMNS = (
    "message_count",
    "last_position",
    "active_leaf_id",
    "path_length",
    "counted_leaf_id",
    "content_bytes",
)
_ROW = Statement(sa.select(*(getattr(Conversation, name) for name in _ROW_COLUMNS)).where(*_own))
_MESSAGES = Statement(
    sa.select(Message.id, Message.parent_id, Message.position, Message.on_path, Message.size_bytes)
    .where(*IN_CONVERSATION)
    .order_by(Message.position)
)
_COUNTS = ("message_count", "path_length", "content_bytes")
_COUNT = Statement(
    sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(sa.case((ON_PATH, 1), else_=0)), 0),
        sa.func.coalesce(sa.func.sum(Message.size_bytes), 0),
    )
    .select_from(Message)
    .where(*IN_CONVERSATION)
)
_SET_ROW = Statement(
    sa.update(Conversation)
    .where(*_own)
    .values({name: new(getattr(Conversation, name)) for name in _ROW_COLUMNS})
)
_SET_COUNTS = Statement(
    sa.update(Conversation)
    .where(*_own)
    .values({name: new(getattr(Conversation, name)) for name in _COUNTS})
    .values(counted_leaf_id=Conversation.active_leaf_id)
)
_SET_PLACEMENT = Statement(
    sa.update(Message)
    .where(Message.user_id == USER_ID, Message.id == MESSAGE_ID)
    .values(parent_id=new(Message.parent_id), on_path=given("new_on_path", sa.Boolean()))
)


class Node(NamedTuple):
    """A message without its content."""

    id: str
    parent_id: str | None
    position: int
    on_path: bool
    size_bytes: int = 0


@dataclass(frozen=True)
class Findings:
    """What is wrong with a conversation, and how it is made right."""

    kinds: tuple[str, ...]
    row: Mapping[str, Any] = field(repr=False)
    messages: Sequence[Node] = field(repr=False)
    """Those with another parent or mark than stored."""


def repair_for_append(*, user_id: str, conversation_id: str) -> None:
    """Lock a conversation to which CAN_APPEND allows no append, and repair it. Inside a transaction.

    Raises NotFound where the user has none that is visible.
    """
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    if not lock(**scope):
        raise NotFound("conversation")
    [(has_position, has_leaf, is_counted)] = _PROBE.all(**scope)
    if not has_position or not has_leaf:
        repair_locked(**scope)
    elif not is_counted:
        count_again(**scope)


def repair_and_commit(*, user_id: str, conversation_id: str) -> None:
    """As `repair_for_append`, in a transaction of its own, or as a part of the one that is open."""
    with statements.transaction():
        repair_for_append(user_id=user_id, conversation_id=conversation_id)


def repair_locked(*, user_id: str, conversation_id: str) -> Findings:
    """Repair a locked conversation as far as something is wrong with it; what was."""
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    findings = inspect(**scope)
    if not findings.kinds:
        return findings
    for message in findings.messages:
        _SET_PLACEMENT.all(
            user_id=user_id,
            message_id=message.id,
            new_parent_id=message.parent_id,
            new_on_path=message.on_path,
        )
    _SET_ROW.all(**scope, **named_new(dict(findings.row)))
    log.warning(
        "a conversation was repaired",
        extra={"conversation_id": conversation_id, "user_id": user_id, "repaired": ",".join(findings.kinds)},
    )
    return findings


def count_again(*, user_id: str, conversation_id: str) -> None:
    """Count in a locked conversation whose leaf was moved by a release that knows not all of the counters."""
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    counts = dict(zip(_COUNTS, map(int, _COUNT.all(**scope)[0]), strict=True))
    _SET_COUNTS.all(**scope, **named_new(counts))


def lock(*, user_id: str, conversation_id: str) -> bool:
    """Lock a conversation, inside a transaction; whether the user has such a one that is visible."""
    return _LOCK_VISIBLE.first(user_id=user_id, conversation_id=conversation_id) is not None


def inspect(*, user_id: str, conversation_id: str) -> Findings:
    """What is wrong with a conversation. Of one that is not locked, something may have changed in between."""
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    found = _ROW.first(**scope)
    if found is None:
        return Findings((), {}, ())
    row = {name: str(value) if name.endswith("_id") and value else value for name, value in
           zip(_ROW_COLUMNS, found, strict=True)}  # fmt: skip
    stored = [
        Node(str(id_), str(parent_id) if parent_id else None, position, bool(on_path), size_bytes)
        for id_, parent_id, position, on_path, size_bytes in _MESSAGES.all(**scope)
    ]
    placed, leaf_id = place_messages(stored, row["active_leaf_id"])
    length = sum(message.on_path for message in placed)
    right = {
        "message_count": len(placed),
        "last_position": max(row["last_position"], placed[-1].position if placed else 0),
        "active_leaf_id": leaf_id,
        "path_length": length,
        "counted_leaf_id": leaf_id,
        "content_bytes": sum(message.size_bytes for message in stored),
    }
    changed = [after for before, after in zip(stored, placed, strict=True) if before != after]
    # what was not counted for this leaf is not wrong: whoever needs it counts
    is_length_wrong = row["counted_leaf_id"] == row["active_leaf_id"] and row["path_length"] != length
    is_wrong = {
        LAST_POSITION: row["last_position"] != right["last_position"],
        MESSAGE_COUNT: row["message_count"] != right["message_count"],
        ACTIVE_PATH: bool(changed) or row["active_leaf_id"] != leaf_id,
        PATH_LENGTH: is_length_wrong,
        CONTENT_BYTES: row["content_bytes"] != right["content_bytes"],
    }
    return Findings(tuple(kind for kind in KINDS if is_wrong[kind]), right, changed)


def place_messages(stored: Sequence[Node], leaf_id: str | None) -> tuple[list[Node], str | None]:
    """A conversation's messages, oldest first, as one tree with one active path, and the leaf of that.

    Nothing changes where they are that already. A parent is an earlier message of the same conversation. A message
    that has lost its own replies to the newest one on the path before it, as one does that was written by a release
    that knows no branches.
    """
    by_id = {message.id: message for message in stored}
    newest_marked = next((message for message in reversed(stored) if message.on_path), None)
    leaf = by_id.get(leaf_id) if leaf_id else None
    if leaf is None or (newest_marked is not None and newest_marked.position > leaf.position):
        leaf = newest_marked
    parents = dict(_parents_of(stored, by_id, leaf_id if leaf_id in by_id else None))
    path = set(_path_to(leaf, parents))
    placed = [node._replace(parent_id=parents[node.id], on_path=node.id in path) for node in stored]
    return placed, leaf.id if leaf else None


def _parents_of(
    stored: Sequence[Node], by_id: Mapping[str, Node], leaf_id: str | None
) -> Iterator[tuple[str, str | None]]:
    """The id of each message and that of its parent."""
    leaf_position = by_id[leaf_id].position if leaf_id else 0
    previous: str | None = None  # the newest one on the path so far
    for node in stored:
        parent = by_id.get(node.parent_id) if node.parent_id else None
        is_lost = node.parent_id is not None and (parent is None or parent.position >= node.position)
        # marked beyond the leaf, and a reply to nothing: of a release that knows no branches
        is_without = node.parent_id is None and node.on_path and node.position > leaf_position
        yield node.id, previous if is_lost or is_without else node.parent_id
        if node.on_path:
            previous = node.id


def _path_to(leaf: Node | None, parents: Mapping[str, str | None]) -> Iterator[str]:
    id_ = leaf.id if leaf else None
    while id_ is not None:
        yield id_
        id_ = parents[id_]
