"""Whether a tool's message answers a call: one that a message above it has."""

from typing import Any

import orjson
import sqlalchemy as sa

from ..conversations import service as conversations
from ..conversations.models import is_in_visible
from ..database.parameters import CONVERSATION_ID, ROW_LIMIT, USER_ID, given
from ..database.statements import Statement
from ..errors import InvalidInput
from .active_path import GREATEST_POSITION, ancestors, find_branch
from .conditions import IN_CONVERSATION, ON_PATH
from .models import Message
from .service import LEAF

# as far up as calls are looked for; no context is longer
MAX_DISTANCE = 10_000

_CALL = given("call", sa.Text())


def _has_call(tool_calls: Any, on_postgres: bool) -> Any:
    """Whether calls, as they are stored, have the one. Its text can't be part of a value: there quotes are escaped."""
    find = sa.func.strpos if on_postgres else sa.func.instr
    return sa.and_(tool_calls.is_not(None), find(tool_calls, _CALL) > 0)


def _on_path(on_postgres: bool) -> sa.Executable:
    nearest = (
        sa.select(Message.tool_calls, Message.position)
        .where(
            *IN_CONVERSATION,
            is_in_visible(USER_ID, CONVERSATION_ID),
            ON_PATH,
            Message.position <= given("up_to", sa.BigInteger()),
        )
        .order_by(Message.position.desc())
        .limit(ROW_LIMIT)
        .subquery("nearest")
    )
    found: sa.Select[Any] = sa.select(sa.literal_column("1")).where(
        _has_call(nearest.c.tool_calls, on_postgres)
    )
    return found.order_by(nearest.c.position.desc()).limit(1)


def _on_branch(on_postgres: bool) -> sa.Executable:
    ancestor = ancestors()
    tool_calls = (
        sa.select(Message.tool_calls)
        .where(Message.user_id == USER_ID, Message.id == ancestor.c.id)
        .scalar_subquery()
    )
    nearest = sa.select(tool_calls.label("tool_calls")).where(sa.not_(ancestor.c.on_path))
    limited = nearest.limit(ROW_LIMIT).subquery("nearest")
    found: sa.Select[Any] = sa.select(sa.literal_column("1")).where(
        _has_call(limited.c.tool_calls, on_postgres)
    )
    return found.limit(1)


_ON_PATH_CALL, _ON_BRANCH_CALL = Statement(_on_path), Statement(_on_branch)


def require_call(
    *, user_id: str, conversation_id: str, parent_id: str | None = LEAF, tool_call_id: str
) -> None:
    """Raise InvalidInput unless a message has such a call that leads to where a result is appended.

    Raises NotFound where the user has no such conversation, or no such parent in it.
    """
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    call = b'{"id":%b,"name":' % orjson.dumps(tool_call_id)
    has_call = {"call": call.decode(), "row_limit": MAX_DISTANCE}
    up_to = GREATEST_POSITION if parent_id == LEAF else 0
    if parent_id not in (LEAF, None):
        branch = find_branch(**scope, message_id=parent_id)
        up_to = branch.fork
        if branch.messages and _ON_BRANCH_CALL.first(user_id=user_id, message_id=parent_id, **has_call):
            return
    if up_to and _ON_PATH_CALL.first(**scope, up_to=up_to, **has_call):
        return
    conversations.require_conversation(**scope)
    raise InvalidInput(
        {
            "tool_call_id": [
                "No message on the path to this one has a tool call with this id: append a result after its call."
            ]
        }
    )
