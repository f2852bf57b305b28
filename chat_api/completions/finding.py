"""The completions of a conversation and of its messages, for dialects that show both as one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..conversations.models import is_in_visible
from ..database.columns import now, seconds_of
from ..database.id_lists import ids_value, select_listed
from ..database.parameters import CONVERSATION_ID, MESSAGE_ID, USER_ID
from ..database.projection import Projection
from ..database.statements import Statement
from . import service
from .models import Completion
from .records import IS_RUNNING, StoredCompletion, find_record

RECENT_S = 15 * 60

# what is shown with a reply
ANSWER = Projection(
    Completion,
    "id",
    "parent_id",
    "message_id",
    "model",
    "status",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "reasoning",
    "outline",
    "problem",
)
_OURS = (Completion.user_id == USER_ID, Completion.conversation_id == CONVERSATION_ID)
_IN_VISIBLE = is_in_visible(USER_ID, CONVERSATION_ID)


def _of_parents(on_postgres: bool) -> sa.Executable:
    found: sa.Executable = select_listed(ANSWER.columns, Completion.parent_id, on_postgres=on_postgres)
    return found


_OF_PARENTS = Statement(_of_parents)
_NEWEST = sa.select(Completion.id).order_by(Completion.id.desc()).limit(1)
_NEWEST_OF_MESSAGE = Statement(
    _NEWEST.where(Completion.user_id == USER_ID, Completion.parent_id == MESSAGE_ID)
)
_RUNNING = Statement(_NEWEST.where(*_OURS, IS_RUNNING, _IN_VISIBLE))
_LAST = Statement(
    sa.select(Completion.provider_id, Completion.model)
    .where(*_OURS, _IN_VISIBLE)
    .order_by(Completion.id.desc())
    .limit(1)
)


class Used(NamedTuple):
    """What a completion was asked of."""

    provider_id: str
    model: str


def answers_by_message(*, user_id: str, parent_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The completions that answer these messages, by the ids of the messages that they became."""
    rows = _OF_PARENTS.all(user_id=user_id, ids=ids_value(parent_ids)) if parent_ids else []
    answers = map(ANSWER.to_values, rows)
    return {answer["message_id"]: answer for answer in answers}


def find_running(*, user_id: str, conversation_id: str) -> StoredCompletion | None:
    """The newest completion in progress of a conversation; one whose worker died is finalized first."""
    while row := _RUNNING.first(user_id=user_id, conversation_id=conversation_id):
        stored = service.find_completion(user_id=user_id, completion_id=str(row[0]))
        if stored.in_progress:
            return stored
    return None


def find_recent(*, user_id: str, message_id: str) -> StoredCompletion | None:
    """The newest completion that answers a message, if it is in progress, or completed not long ago."""
    row = _NEWEST_OF_MESSAGE.first(user_id=user_id, message_id=message_id)
    stored = find_record(user_id=user_id, completion_id=str(row[0])) if row else None
    if stored is None:
        return None
    ended_at = stored.row["finished_at"]
    is_recent = ended_at is not None and now().timestamp() - seconds_of(ended_at) < RECENT_S
    is_done = stored.row["status"] == "completed" and is_recent
    return stored if is_done or (stored.in_progress and not stored.is_abandoned) else None


def find_last(*, user_id: str, conversation_id: str) -> Used | None:
    """What the newest completion of a conversation was asked of."""
    row = _LAST.first(user_id=user_id, conversation_id=conversation_id)
    return None if row is None else Used(str(row[0]), row[1])
