"""The logs of replies that have become messages: in which order text, thoughts and calls came."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from ..database.id_lists import ids_value, select_listed
from ..database.statements import Statement
from .models import Completion
from .reply_log import ReplyLog, rebuilt


def _outlines(on_postgres: bool) -> sa.Executable:
    """By the messages that are answered, for which there is an index."""
    columns = (Completion.message_id, Completion.outline, Completion.reasoning)
    found: sa.Executable = select_listed(columns, Completion.parent_id, on_postgres=on_postgres)
    return found


_OUTLINES = Statement(_outlines)


def logs_of(*, user_id: str, messages: Iterable[Mapping[str, Any]]) -> dict[str, ReplyLog]:
    """The logs of those of these messages that a model wrote here, by the ids of the messages."""
    replies = {
        str(message["id"]): message
        for message in messages
        if message["role"] == "assistant" and message["parent_id"] is not None
    }
    if not replies:
        return {}
    parents = dict.fromkeys(str(message["parent_id"]) for message in replies.values())
    rows = _OUTLINES.all(user_id=user_id, ids=ids_value(list(parents)))
    return {
        str(message_id): log_of(replies[str(message_id)], outline, reasoning)
        for message_id, outline, reasoning in rows
        if str(message_id) in replies and outline
    }


def log_of(message: Mapping[str, Any], outline: str, reasoning: str | None) -> ReplyLog:
    """The log of a reply without its sources and files, which its parts are not in need of."""
    calls = message.get("tool_calls") or []
    return rebuilt(outline, text=message["content"], reasoning=reasoning or "", tool_calls=calls, sources=[])
