"""Appending messages and finding single ones. Lists are in `pages`, the active path in `branches`."""

from collections.abc import Iterable
from typing import Any

import orjson
import sqlalchemy as sa

from ..conversations.models import Conversation
from ..database import statements
from ..database.bulk import insert_rows
from ..database.columns import Id, UTCDateTime, new_id, now
from ..database.dialect import is_postgres
from ..database.session import db
from ..database.statements import Statement
from ..errors import NotFound
from ..search_index import writer as index_writer
from ..search_index.rebuild import write_new_words
from .active_path import CONVERSATION, HERE, MESSAGE, ON_PATH, OWNER, THIS_CONVERSATION, lead_path_to
from .models import Message

LEAF = "leaf"  # as a parent: whatever message the active path ends at

_COLUMNS = ("user_id", "id", "conversation_id", "parent_id", "position", "role", "content", "size_bytes",
            "attachment_count", "created_at")  # fmt: skip
_REPLY_COLUMNS = (*_COLUMNS, "status", "tool_calls", "tool_call_id")


def _parameter(name: str, kind: Any) -> Any:
    return sa.bindparam(name, type_=kind)


_MOMENT = _parameter("moment", UTCDateTime())

# The conversation's row numbers the message and names its parent: the lock on it is what makes positions total and
# the path unbroken, and naming the owner here is the whole check of ownership
_count = (
    sa.update(Conversation)
    .where(*THIS_CONVERSATION)
    .values(
        message_count=Conversation.message_count + 1,
        last_position=Conversation.last_position + 1,
        updated_at=_MOMENT,
    )
)
_take_place = _count.values(previous_leaf_id=Conversation.active_leaf_id, active_leaf_id=MESSAGE).returning(
    Conversation.user_id, Conversation.id, Conversation.previous_leaf_id, Conversation.last_position
)


def _insert_from(place: Iterable[Any], columns: tuple[str, ...] = _COLUMNS) -> Any:
    """Insert a message at a place: owner, conversation, parent and position."""
    user_id, conversation_id, parent_id, position = place
    message: tuple[Any, ...] = (
        user_id,
        MESSAGE,
        conversation_id,
        parent_id,
        position,
        _parameter("role_", sa.String()),
        _parameter("text", sa.Text()),
        _parameter("size", sa.Integer()),
        sa.literal_column("0"),
        _MOMENT,
        _parameter("status_", sa.String()),
        _parameter("calls", sa.Text()),
        _parameter("call", sa.String()),
        sa.false(),
    )
    return sa.insert(Message).from_select(columns, sa.select(*message[: len(columns)]))


# Postgres: one round trip. user_id comes from the CTE, which lets Citus route it to one shard
_taken = _take_place.cte("taken")


def _append_and_index(columns: tuple[str, ...] = _COLUMNS) -> sa.Select[Any]:
    appended = _insert_from(_taken.c, columns).returning(
        Message.user_id, Message.id, Message.position, Message.parent_id
    )
    rows = appended.cte("appended")
    indexed = index_writer.insert_vector(rows).cte("indexed")
    return sa.select(rows.c.position, rows.c.parent_id).add_cte(indexed)


_APPEND = Statement(_append_and_index())
_APPEND_REPLY = Statement(_append_and_index(_REPLY_COLUMNS))
# SQLite: the same in two
_TAKE_PLACE = Statement(_take_place)
_there = (
    OWNER,
    CONVERSATION,
    _parameter("parent", Id()),
    _parameter("position_", sa.Integer()),
)
_INSERT = Statement(_insert_from(_there))
_INSERT_REPLY = Statement(_insert_from(_there, _REPLY_COLUMNS))
# beside the active path, which goes on where it did
_COUNT = Statement(_count.returning(Conversation.last_position))
_INSERT_ASIDE = Statement(_insert_from(_there, (*_REPLY_COLUMNS, "on_path")))


def append_message(
    *,
    user_id: str,
    conversation_id: str,
    role: str,
    content: str,
    tool_call_id: str | None = None,
    parent_id: str | None = LEAF,
) -> dict[str, Any]:
    """Append a message to the user's conversation and return it as plain values. Raises NotFound.

    It answers the message at the end of the active path, or `parent_id`, to which the path is led then; None makes it
    a first message. Inside a transaction.
    """
    place = {"user_id": user_id, "conversation_id": conversation_id}
    if parent_id != LEAF:
        lead_path_to(**place, message_id=parent_id)
    if tool_call_id is not None:
        return append_reply(
            **place, message_id=new_id(), role=role, content=content, tool_call_id=tool_call_id
        )
    message = _values(new_id(), role, content)
    position, parent = _append(_APPEND, _INSERT, user_id, conversation_id, message)
    moment = message["moment"]
    return shown(message["message"], conversation_id, parent, position, role, content, "completed", moment)


def append_message_and_commit(
    *, user_id: str, conversation_id: str, role: str, content: str, **options: Any
) -> dict[str, Any]:
    """As `append_message`, in a transaction of its own; on Postgres mostly one round trip, the commit included."""
    if options or not is_postgres(db.engine):
        with statements.transaction():
            return append_message(
                user_id=user_id, conversation_id=conversation_id, role=role, content=content, **options
            )
    message = _values(new_id(), role, content)
    vector = index_writer.vector_of(user_id, conversation_id, message["message"], content)
    row = _APPEND.first_and_commit(owner=user_id, conversation=conversation_id, **message, vector=vector)
    if row is None:
        raise NotFound("conversation")
    position, parent = row[0], None if row[1] is None else str(row[1])
    return shown(
        message["message"], conversation_id, parent, position, role, content, "completed", message["moment"]
    )


def append_reply(
    *,
    user_id: str,
    conversation_id: str,
    message_id: str,
    content: str,
    role: str = "assistant",
    status: str = "completed",
    tool_calls: str | None = None,
    tool_call_id: str | None = None,
    beside_path_to: str | None = None,
) -> dict[str, Any]:
    """As `append_message`, for a message with an id that was handed out before, calls (as JSON) or another end.

    With `beside_path_to` it answers that message, and the active path stays as it is; inside a transaction.
    """
    message = _values(message_id, role, content)
    message |= {"status_": status, "calls": tool_calls, "call": tool_call_id}
    if beside_path_to is None:
        position, parent = _append(_APPEND_REPLY, _INSERT_REPLY, user_id, conversation_id, message)
    else:
        position, parent = _append_aside(user_id, conversation_id, beside_path_to, message), beside_path_to
    moment = message["moment"]
    return shown(
        message_id, conversation_id, parent, position, role, content, status, moment, tool_calls, tool_call_id
    )


_REPLACE_REPLY = Statement(
    sa.update(Message)
    .where(Message.user_id == OWNER, Message.id == MESSAGE)
    .values(
        content=sa.bindparam("text", type_=sa.Text()),
        size_bytes=sa.bindparam("size", type_=sa.Integer()),
        status=sa.bindparam("status_", type_=sa.String()),
        tool_calls=sa.bindparam("calls", type_=sa.Text()),
    )
)


def replace_reply(
    *, user_id: str, message_id: str, content: str, status: str, tool_calls: str | None
) -> dict[str, Any]:
    """Give a reply that was settled before the text that it has by now, and return it; inside a transaction."""
    size_bytes = len(content.encode())
    _REPLACE_REPLY.all(
        owner=user_id, message=message_id, text=content, size=size_bytes, status_=status, calls=tool_calls
    )
    message = get_message(user_id=user_id, message_id=message_id)
    index_writer.rewrite(
        user_id=user_id,
        conversation_id=message["conversation_id"],
        message_id=message_id,
        content=content,
    )
    return message


def _values(message_id: str, role: str, content: str) -> dict[str, Any]:
    size_bytes = len(content.encode())
    return {"message": message_id, "role_": role, "text": content, "size": size_bytes, "moment": now()}


def _append(
    in_one: Statement, insert: Statement, user_id: str, conversation_id: str, message: dict[str, Any]
) -> tuple[int, str | None]:
    """Position and parent of the message. Raises NotFound."""
    place = {"owner": user_id, "conversation": conversation_id}
    if is_postgres(db.engine):
        vector = index_writer.vector_of(user_id, conversation_id, message["message"], message["text"])
        row = in_one.first(**place, **message, vector=vector)
    else:
        row = _append_in_two(insert, place, message)
    if row is None:
        raise NotFound("conversation")
    position, parent_id = row
    return position, None if parent_id is None else str(parent_id)


def _append_in_two(
    insert: Statement, place: dict[str, Any], message: dict[str, Any]
) -> tuple[int, str | None] | None:
    row = _TAKE_PLACE.first(**place, message=message["message"], moment=message["moment"])
    if row is None:
        return None
    _, _, parent_id, position = row
    insert.all(**place, **message, parent=parent_id, position_=position)
    _write_terms(place, message)
    return position, parent_id


def _append_aside(user_id: str, conversation_id: str, parent_id: str, message: dict[str, Any]) -> int:
    place = {"owner": user_id, "conversation": conversation_id}
    row = _COUNT.first(**place, moment=message["moment"])
    if row is None:
        raise NotFound("conversation")
    _INSERT_ASIDE.all(**place, **message, parent=parent_id, position_=row[0])
    _write_terms(place, message)
    return row[0]


def _write_terms(place: dict[str, Any], message: dict[str, Any]) -> None:
    index_writer.write(
        user_id=place["owner"],
        conversation_id=place["conversation"],
        message_id=message["message"],
        content=message["text"],
    )


def insert_messages(rows: list[dict[str, Any]]) -> None:
    """Insert whole rows of a user's messages with their words, as an import restores them, in `db.session`."""
    insert_rows(Message, rows)
    stored = [(row["id"], row["conversation_id"], row["content"]) for row in rows]
    write_new_words(db.session.connection(), rows[0]["user_id"], stored)


def shown(
    message_id: str,
    conversation_id: str,
    parent_id: str | None,
    position: int | None,
    role: str,
    content: str,
    status: str,
    created_at: Any,
    tool_calls: str | None = None,
    tool_call_id: str | None = None,
) -> dict[str, Any]:
    """A message as clients see it."""
    message = {
        "id": message_id,
        "conversation_id": conversation_id,
        "parent_id": parent_id,
        "position": position,
        "role": role,
        "content": content,
        "status": status,
        "created_at": created_at,
    }
    if tool_calls is not None:
        message["tool_calls"] = orjson.loads(tool_calls)
    if tool_call_id is not None:
        message["tool_call_id"] = tool_call_id
    return message


READ = sa.select(
    Message.id,
    Message.conversation_id,
    Message.parent_id,
    Message.position,
    Message.role,
    Message.content,
    Message.status,
    Message.created_at,
    Message.tool_calls,
    Message.tool_call_id,
)
_GET = Statement(READ.where(Message.user_id == OWNER, Message.id == MESSAGE))
_GET_LAST = Statement(READ.where(*HERE, ON_PATH).order_by(Message.position.desc()).limit(1))
_IS_ON_PATH = Statement(
    sa.select(sa.literal(1)).where(Message.user_id == OWNER, Message.id == MESSAGE, ON_PATH)
)
_BEFORE = Message.position < _parameter("cursor", sa.BigInteger())
_INSTRUCTIONS = Statement(
    sa.select(Message.position, Message.role, Message.content)
    .where(
        *HERE,
        ON_PATH,
        # literals, as in the partial index; a list of parameters would be laid out only when SQLAlchemy executes it
        Message.role.in_([sa.literal_column("'system'"), sa.literal_column("'developer'")]),
        _BEFORE,
    )
    .order_by(Message.position)
    .limit(_parameter("limit_", sa.Integer()))
)
_COUNT_BEFORE = Statement(sa.select(sa.func.count()).select_from(Message).where(*HERE, ON_PATH, _BEFORE))


def shown_row(row: Any) -> dict[str, Any]:
    """The message of a row with the columns of `shown`, in the driver's types: Postgres' has one of its own for ids."""
    message_id, conversation_id, parent_id, *rest = row
    parent_id = None if parent_id is None else str(parent_id)
    return shown(str(message_id), str(conversation_id), parent_id, *rest)


def get_message(*, user_id: str, message_id: str) -> dict[str, Any]:
    """A message of the user as plain values. Raises NotFound."""
    row = _GET.first(owner=user_id, message=message_id)
    if row is None:
        raise NotFound("message")
    return shown_row(row)


def find_last_message(*, user_id: str, conversation_id: str) -> dict[str, Any] | None:
    """The message at the end of the active path as plain values, None where there is none."""
    row = _GET_LAST.first(owner=user_id, conversation=conversation_id)
    return None if row is None else shown_row(row)


def is_on_path(*, user_id: str, message_id: str) -> bool:
    """Whether the user has such a message on the active path of its conversation."""
    return _IS_ON_PATH.first(owner=user_id, message=message_id) is not None


def list_instructions(
    *, user_id: str, conversation_id: str, before: int, limit: int
) -> list[tuple[int, str, str]]:
    """Position, role and content of the system messages on the path in front of a position, oldest first."""
    return _INSTRUCTIONS.all(owner=user_id, conversation=conversation_id, cursor=before, limit_=limit)


def count_before(*, user_id: str, conversation_id: str, position: int) -> int:
    """How many messages of the active path are in front of a position. Costs as much as there are."""
    row = _COUNT_BEFORE.first(owner=user_id, conversation=conversation_id, cursor=position)
    return row[0] if row else 0
