"""How a reply ends: it becomes a message, once, whatever became of the worker that wrote it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from ..conversations.models import Conversation
from ..database import statements
from ..database.columns import Id, UTCDateTime, now, seconds_of
from ..database.dialect import is_postgres
from ..database.session import db
from ..database.statements import Statement
from ..errors import NotFound, Unavailable, problem_body
from ..messages import service as messages
from ..messages.models import Message
from .checkpoints import read_checkpoints
from .context import tokens_of
from .models import IN_PROGRESS, Completion, CompletionCheckpoint
from .records import (
    ID,
    IS_RUNNING,
    OURS,
    OWNER,
    StartedCompletion,
    StoredCompletion,
    find_record,
    started_row,
)
from .reply_log import REASONING, TEXT, ReplyLog


def _parameter(name: str, kind: Any) -> Any:
    return sa.bindparam(name, type_=kind)


# Events that a client may have seen and that were not durable when a worker died are below this distance: the id
# of the last event lies behind them, so that nobody who saw more mistakes the end for something known.
UNSEEN = 2**26
WORKER_LOST = "worker_lost"

log = logging.getLogger(__name__)

# With both rows locked: nobody appends meanwhile, and nobody else finalizes. Postgres locks them in the order of FROM:
# the conversation first, as whoever deletes it or one of its messages does.
_STATE = Statement(
    sa.select(
        Completion.status,
        Completion.worker_id,
        Completion.message_id,
        Completion.lease_expires_at,
        Completion.finish_reason,
        Completion.parent_id,
        Completion.branch_id,
        Conversation.active_leaf_id,
    )
    .join_from(
        Conversation,
        Completion,
        sa.and_(Conversation.user_id == Completion.user_id, Conversation.id == Completion.conversation_id),
    )
    .where(*OURS)
    .with_for_update()
)
_DELETE_CHECKPOINTS = sa.delete(CompletionCheckpoint).where(
    CompletionCheckpoint.user_id == OWNER, CompletionCheckpoint.completion_id == ID
)


def _finalize_row(on_postgres: bool) -> sa.Executable:
    """Store how it ended; Postgres drops the pieces in the same round trip."""
    finalized = (
        sa.update(Completion)
        .where(*OURS)
        .values(
            status=_parameter("status_", sa.String()),
            finish_reason=_parameter("reason", sa.String()),
            problem=_parameter("problem_", sa.Text()),
            prompt_tokens=_parameter("prompt", sa.Integer()),
            completion_tokens=_parameter("written", sa.Integer()),
            usage_estimated=_parameter("estimated", sa.Boolean()),
            reasoning=_parameter("thoughts", sa.Text()),
            outline=_parameter("outline_", sa.Text()),
            last_event_id=_parameter("last", sa.BigInteger()),
            finished_at=_parameter("moment", UTCDateTime()),
        )
    )
    return finalized.add_cte(_DELETE_CHECKPOINTS.cte("dropped")) if on_postgres else finalized


_FINALIZE, _DROP = Statement(_finalize_row), Statement(_DELETE_CHECKPOINTS)
_HAS_MESSAGE = Statement(
    sa.select(Message.id).where(Message.user_id == OWNER, Message.id == _parameter("message", Id()))
)
# goes through all users: the in-progress ones are few, whatever the number of those that ended
_ABANDONED = Statement(
    sa.select(Completion.user_id, Completion.id).where(
        IS_RUNNING, Completion.lease_expires_at < _parameter("moment", UTCDateTime())
    )
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reply ended."""

    status: str
    finish_reason: str | None
    problem: dict[str, Any] | None
    prompt_tokens: int
    completion_tokens: int
    usage_estimated: bool


def finalize(
    started: StartedCompletion, *, worker_id: str, log: ReplyLog, outcome: Outcome
) -> StoredCompletion:
    """Store the end of a reply: its message, its usage and its status, in one transaction. Once, whoever is first.

    One exception: a worker that was taken for dead and comes back, with more of the reply than was durable when
    it was finalized, still has its way. Returns what is stored then. Raises NotFound where the conversation was
    deleted meanwhile.
    """
    finalized = _finalize(
        started.user_id, started.conversation_id, started_row(started), log, outcome, worker_id=worker_id
    )
    finalized = finalized or find_record(user_id=started.user_id, completion_id=started.id)
    if finalized is None:
        raise NotFound("completion")
    return finalized


def _finalize(
    user_id: str,
    conversation_id: str,
    known: Mapping[str, Any],
    log: ReplyLog,
    outcome: Outcome,
    *,
    worker_id: str | None,
) -> StoredCompletion | None:
    """What was stored, or None where it was finalized already or is gone. Without `worker_id` its lease is over."""
    ours = {"owner": user_id, "completion": known["id"]}
    with statements.transaction():
        row = _STATE.first(**ours)
        if row is None:
            return None
        status, writer_id, message_id, lease_expires_at, reason, parent_id, branch_id, leaf_id = row
        is_first = status == IN_PROGRESS
        if worker_id is None:
            may_finalize = is_first and seconds_of(lease_expires_at) < now().timestamp()
        else:
            may_finalize = is_first or (str(writer_id) == worker_id and reason == WORKER_LOST)
        if not may_finalize:
            return None
        place = {
            "user_id": user_id,
            "conversation_id": conversation_id,
            "beside_path_to": _beside(user_id, parent_id, branch_id, leaf_id),
        }
        message = _store_reply(str(message_id), log, outcome, place, is_first=is_first)
        ended = {
            "status": outcome.status,
            "finish_reason": outcome.finish_reason,
            "problem": orjson.dumps(outcome.problem).decode() if outcome.problem else None,
            "prompt_tokens": outcome.prompt_tokens,
            "completion_tokens": outcome.completion_tokens,
            "usage_estimated": outcome.usage_estimated,
            "reasoning": log.text_of(REASONING) or None,
            "outline": log.outline(),
            "last_event_id": log.position + (UNSEEN if worker_id is None else 1),
            "finished_at": now(),
        }
        if not is_postgres(db.engine):
            _DROP.all(**ours)
        statements.execute_at_end(
            _FINALIZE,
            **ours,
            status_=ended["status"],
            reason=ended["finish_reason"],
            problem_=ended["problem"],
            prompt=ended["prompt_tokens"],
            written=ended["completion_tokens"],
            estimated=ended["usage_estimated"],
            thoughts=ended["reasoning"],
            outline_=ended["outline"],
            last=ended["last_event_id"],
            moment=ended["finished_at"],
        )
    return StoredCompletion({**known, **ended}, message)


def _beside(user_id: str, parent_id: Any, branch_id: Any, leaf_id: Any) -> str | None:
    """The answered message, where the active path has left it meanwhile and the reply goes beside it.

    What was said behind a message in the meantime does not part its reply from the path, unless the reply was asked
    for as a branch of its own.
    """
    if leaf_id == parent_id:
        return None
    goes_on = branch_id is None and messages.is_on_path(user_id=user_id, message_id=str(parent_id))
    return None if goes_on else str(parent_id)


def _store_reply(
    message_id: str, log: ReplyLog, outcome: Outcome, place: dict[str, Any], *, is_first: bool
) -> dict[str, Any] | None:
    """Append the reply to the conversation; of a reply that failed before its first word there is no message."""
    user_id, content, tool_calls = place["user_id"], log.text_of(TEXT), log.tool_calls()
    if not content and tool_calls is None and outcome.status != "completed":
        return None
    status = "incomplete" if outcome.status == "failed" else outcome.status
    if not is_first and _HAS_MESSAGE.first(owner=user_id, message=message_id) is not None:
        return messages.replace_reply(
            user_id=user_id, message_id=message_id, content=content, status=status, tool_calls=tool_calls
        )
    return messages.append_reply(
        **place, message_id=message_id, content=content, status=status, tool_calls=tool_calls
    )


def reap_abandoned(*, user_id: str | None = None) -> None:
    """Settle replies whose worker has died as incomplete, with the text that was durable: one user's, or all.

    One that can't be finalized stays as it is, and stops no other. Raises Unavailable.
    """
    for row in _ABANDONED.all(moment=now()):
        owner, completion_id = map(str, row)
        if user_id not in (None, owner):
            continue
        try:
            stored = find_record(user_id=owner, completion_id=completion_id)
            if stored is not None:
                reap(stored)
        except Unavailable:
            raise
        except Exception:
            log.exception("an abandoned reply could not be finalized", extra={"completion_id": completion_id})


def reap(stored: StoredCompletion) -> None:
    """Settle a reply whose worker has died as incomplete, with the text that was durable; nothing if it lives."""
    known = stored.row
    user_id, conversation_id = known["user_id"], known["conversation_id"]
    log = ReplyLog(read_checkpoints(user_id=user_id, completion_id=known["id"], begin=0))
    text = log.text_of(TEXT) + log.text_of(REASONING) + (log.tool_calls() or "")
    outcome = Outcome(
        status="incomplete",
        finish_reason=WORKER_LOST,
        problem=problem_body(500, WORKER_LOST, "The server that wrote this reply was stopped."),
        prompt_tokens=known["prompt_tokens"],
        completion_tokens=tokens_of(text),
        usage_estimated=True,
    )
    _finalize(user_id, conversation_id, known, log, outcome, worker_id=None)
