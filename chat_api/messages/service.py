"""Appending messages and reading them page by page."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa

from .. import statements
from ..columns import Id, UTCDateTime, new_id, now
from ..conversations import service as conversations
from ..conversations.models import Conversation
from ..errors import NotFound
from ..pagination import MAX_PAGE_BYTES, Page, within_page_bytes
from ..statements import Statement
from .models import Message

_COLUMNS = ("user_id", "id", "conversation_id", "position", "role", "content", "size_bytes",
            "attachment_count", "created_at")  # fmt: skip
_REPLY_COLUMNS = (*_COLUMNS, "status", "tool_calls", "tool_call_id")


def _parameter(name: str, kind: Any) -> Any:
    return sa.bindparam(name, type_=kind)


_MOMENT = _parameter("moment", UTCDateTime())

# The conversation's row numbers the message: the lock on it is what makes positions total and gapless, and
# naming the owner here is the whole check of ownership
_take_position = (
    sa.update(Conversation)
    .where(
        Conversation.user_id == _parameter("owner", Id()), Conversation.id == _parameter("conversation", Id())
    )
    .values(message_count=Conversation.message_count + 1, updated_at=_MOMENT)
    .returning(Conversation.user_id, Conversation.id, Conversation.message_count)
)


def _insert_from(
    user_id: Any, conversation_id: Any, position: Any, columns: tuple[str, ...] = _COLUMNS
) -> Any:
    message: tuple[Any, ...] = (
        user_id,
        _parameter("message", Id()),
        conversation_id,
        position,
        _parameter("role_", sa.String()),
        _parameter("text", sa.Text()),
        _parameter("size", sa.Integer()),
        sa.literal_column("0"),
        _MOMENT,
        _parameter("status_", sa.String()),
        _parameter("calls", sa.Text()),
        _parameter("call", sa.String()),
    )
    return sa.insert(Message).from_select(columns, sa.select(*message[: len(columns)]))


# Postgres: one round trip. user_id comes from the CTE, which lets Citus route it to one shard
_taken = _take_position.cte("taken")
_APPEND = Statement(
    _insert_from(_taken.c.user_id, _taken.c.id, _taken.c.message_count).returning(Message.position)
)
_APPEND_REPLY = Statement(
    _insert_from(_taken.c.user_id, _taken.c.id, _taken.c.message_count, _REPLY_COLUMNS).returning(
        Message.position
    )
)
# SQLite: the same in two
_TAKE_POSITION = Statement(_take_position)
_here = (_parameter("owner", Id()), _parameter("conversation", Id()), _parameter("position_", sa.Integer()))
_INSERT = Statement(_insert_from(*_here))
_INSERT_REPLY = Statement(_insert_from(*_here, _REPLY_COLUMNS))


def append_message(
    *, user_id: str, conversation_id: str, role: str, content: str, tool_call_id: str | None = None
) -> dict[str, Any]:
    """Append a message to the user's conversation and return it as plain values. Raises NotFound.

    Committed when this returns, unless the request has a transaction open: then with that one.
    """
    if tool_call_id is not None:
        return append_reply(
            user_id=user_id,
            conversation_id=conversation_id,
            message_id=new_id(),
            role=role,
            content=content,
            tool_call_id=tool_call_id,
        )
    message = _values(new_id(), role, content)
    position = _append(_APPEND, _INSERT, user_id, conversation_id, message)
    return shown(message["message"], conversation_id, position, role, content, "completed", message["moment"])


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
) -> dict[str, Any]:
    """As `append_message`, for a message with an id that was handed out before, calls (as JSON) or another end."""
    message = _values(message_id, role, content)
    extra = {"status_": status, "calls": tool_calls, "call": tool_call_id}
    position = _append(_APPEND_REPLY, _INSERT_REPLY, user_id, conversation_id, message | extra)
    moment = message["moment"]
    return shown(
        message_id, conversation_id, position, role, content, status, moment, tool_calls, tool_call_id
    )


def _values(message_id: str, role: str, content: str) -> dict[str, Any]:
    size_bytes = len(content.encode())
    return {"message": message_id, "role_": role, "text": content, "size": size_bytes, "moment": now()}


def _append(
    in_one: Statement, insert: Statement, user_id: str, conversation_id: str, message: dict[str, Any]
) -> int:
    place = {"owner": user_id, "conversation": conversation_id}
    if statements.writes_in_one_round_trip():
        row = in_one.first(**place, **message)
        position = row[0] if row else None
    else:
        position = _append_in_two(insert, place, message)
    if position is None:
        raise NotFound("conversation")
    return position


def _append_in_two(insert: Statement, place: dict[str, Any], message: dict[str, Any]) -> int | None:
    with statements.transaction():
        row = _TAKE_POSITION.first(**place, moment=message["moment"])
        if row is None:
            return None
        insert.all(**place, **message, position_=row[2])
        return row[2]


def shown(
    message_id: str,
    conversation_id: str,
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


def _page(dialect_name: str, *, backwards: bool) -> sa.Executable:
    """A page by keyset. Postgres hands over whole results, so there the statement itself bounds their size;
    SQLite is read row by row, and a window would copy every content first."""
    order = Message.position.desc() if backwards else Message.position
    cursor = _parameter("cursor", sa.BigInteger())
    rows = (
        sa.select(
            Message.id,
            Message.position,
            Message.role,
            Message.content,
            Message.size_bytes,
            Message.created_at,
            Message.status,
            Message.tool_calls,
            Message.tool_call_id,
        )
        .where(
            Message.user_id == _parameter("owner", Id()),
            Message.conversation_id == _parameter("conversation", Id()),
            Message.position < cursor if backwards else Message.position > cursor,
        )
        .order_by(order)
        .limit(_parameter("limit_", sa.Integer()))
    )
    if dialect_name != "postgresql":
        return rows
    return within_page_bytes(rows, size="size_bytes", place="position", backwards=backwards)


_PAGE_FORWARDS = Statement(partial(_page, backwards=False))
_PAGE_BACKWARDS = Statement(partial(_page, backwards=True))


def list_messages(*, user_id: str, conversation_id: str, page: Page) -> tuple[list[dict[str, Any]], bool]:
    """A page of a conversation's messages, oldest first, and whether there are more in its direction.

    A page ends early rather than grow beyond MAX_PAGE_BYTES. Raises NotFound where the user has no such
    conversation.
    """

    def read(rows: Iterable[Any]) -> tuple[list[dict[str, Any]], bool]:
        messages: list[dict[str, Any]] = []
        page_bytes = 0
        for message_id, position, role, content, size_bytes, created_at, status, calls, call in rows:
            page_bytes += size_bytes
            if len(messages) == page.limit or (page_bytes > MAX_PAGE_BYTES and messages):
                return messages, True
            messages.append(
                shown(message_id, conversation_id, position, role, content, status, created_at, calls, call)
            )
        return messages, False

    messages, more = (_PAGE_BACKWARDS if page.backwards else _PAGE_FORWARDS).read(
        read,
        owner=user_id,
        conversation=conversation_id,
        cursor=page.before if page.backwards else page.after or 0,
        limit_=page.limit + 1,
    )
    if not messages:  # only an empty page needs to ask whether there is such a conversation
        conversations.require_conversation(user_id=user_id, conversation_id=conversation_id)
    if page.backwards:
        messages.reverse()
    return messages, more


_whole = sa.select(
    Message.id,
    Message.conversation_id,
    Message.position,
    Message.role,
    Message.content,
    Message.status,
    Message.created_at,
    Message.tool_calls,
    Message.tool_call_id,
).where(Message.user_id == _parameter("owner", Id()))
_GET = Statement(_whole.where(Message.id == _parameter("message", Id())))
_GET_LAST = Statement(
    _whole.where(Message.conversation_id == _parameter("conversation", Id()))
    .order_by(Message.position.desc())
    .limit(1)
)
_INSTRUCTIONS = Statement(
    sa.select(Message.position, Message.role, Message.content)
    .where(
        Message.user_id == _parameter("owner", Id()),
        Message.conversation_id == _parameter("conversation", Id()),
        # literals, as in the partial index; a list of parameters would be laid out only when SQLAlchemy executes it
        Message.role.in_([sa.literal_column("'system'"), sa.literal_column("'developer'")]),
        Message.position < _parameter("cursor", sa.BigInteger()),
    )
    .order_by(Message.position)
    .limit(_parameter("limit_", sa.Integer()))
)


def get_message(*, user_id: str, message_id: str) -> dict[str, Any]:
    """A message of the user as plain values. Raises NotFound."""
    row = _GET.first(owner=user_id, message=message_id)
    if row is None:
        raise NotFound("message")
    return _shown_row(row)


def find_last_message(*, user_id: str, conversation_id: str) -> dict[str, Any] | None:
    """The last message of a conversation as plain values, None where there is none."""
    row = _GET_LAST.first(owner=user_id, conversation=conversation_id)
    return None if row is None else _shown_row(row)


def _shown_row(row: Any) -> dict[str, Any]:
    message_id, conversation_id, *rest = row  # Postgres' driver has a type of its own for ids
    return shown(str(message_id), str(conversation_id), *rest)


def list_instructions(
    *, user_id: str, conversation_id: str, before: int, limit: int
) -> list[tuple[int, str, str]]:
    """Position, role and content of the system messages in front of a position, oldest first."""
    return _INSTRUCTIONS.all(owner=user_id, conversation=conversation_id, cursor=before, limit_=limit)
