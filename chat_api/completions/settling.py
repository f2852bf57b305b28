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
from ..database.statements import Statement
from ..errors import NotFound, Unavailable, problem_body
from ..messages import service as messages
from ..messages.models import Message
from .context import tokens_of
from .models import IN_PROGRESS, Completion, CompletionPiece
from .pieces import read_pieces
from .reply_log import REASONING, TEXT, ReplyLog
from .stored import ID, IS_RUNNING, OURS, OWNER, Started, Stored, read, row_of


def _parameter(name: str, kind: Any) -> Any:
    return sa.bindparam(name, type_=kind)


# Events that a client may have seen and that were not durable when a worker died are below this distance: the id
# of the last event lies behind them, so that nobody who saw more mistakes the end for something known.
UNSEEN = 2**26
WORKER_LOST = "worker_lost"

log = logging.getLogger(__name__)

# With both rows locked: nobody appends meanwhile, and nobody else settles. Postgres locks them in the order of FROM:
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
_DROP_PIECES = sa.delete(CompletionPiece).where(
    CompletionPiece.user_id == OWNER, CompletionPiece.completion_id == ID
)


def _settle_row(dialect_name: str) -> sa.Executable:
    """Store how it ended; Postgres drops the pieces in the same round trip."""
    settled = (
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
    return settled.add_cte(_DROP_PIECES.cte("dropped")) if dialect_name == "postgresql" else settled


_SETTLE, _DROP = Statement(_settle_row), Statement(_DROP_PIECES)
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
class Ending:
    """How a reply ended."""

    status: str
    finish_reason: str | None
    problem: dict[str, Any] | None
    prompt_tokens: int
    completion_tokens: int
    usage_estimated: bool


def settle(started: Started, *, worker_id: str, log: ReplyLog, ending: Ending) -> Stored:
    """Store the end of a reply: its message, its usage and its status, in one transaction. Once, whoever is first.

    One exception: a worker that was taken for dead and comes back, with more of the reply than was durable when
    it was settled, still has its way. Returns what is stored then. Raises NotFound where the conversation was
    deleted meanwhile.
    """
    settled = _settle(
        started.user_id, started.conversation_id, row_of(started), log, ending, worker_id=worker_id
    )
    settled = settled or read(user_id=started.user_id, completion_id=started.id)
    if settled is None:
        raise NotFound("completion")
    return settled


def _settle(
    user_id: str,
    conversation_id: str,
    known: Mapping[str, Any],
    log: ReplyLog,
    ending: Ending,
    *,
    worker_id: str | None,
) -> Stored | None:
    """What was stored, or None where it was settled already or is gone. Without `worker_id` its lease is over."""
    ours = {"owner": user_id, "completion": known["id"]}
    with statements.transaction():
        row = _STATE.first(**ours)
        if row is None:
            return None
        status, writer_id, message_id, lease_expires_at, reason, parent_id, branch_id, leaf_id = row
        is_first = status == IN_PROGRESS
        if worker_id is None:
            may_settle = is_first and seconds_of(lease_expires_at) < now().timestamp()
        else:
            may_settle = is_first or (str(writer_id) == worker_id and reason == WORKER_LOST)
        if not may_settle:
            return None
        place = {
            "user_id": user_id,
            "conversation_id": conversation_id,
            "beside_path_to": _beside(user_id, parent_id, branch_id, leaf_id),
        }
        message = _store_reply(str(message_id), log, ending, place, is_first=is_first)
        ended = {
            "status": ending.status,
            "finish_reason": ending.finish_reason,
            "problem": orjson.dumps(ending.problem).decode() if ending.problem else None,
            "prompt_tokens": ending.prompt_tokens,
            "completion_tokens": ending.completion_tokens,
            "usage_estimated": ending.usage_estimated,
            "reasoning": log.text_of(REASONING) or None,
            "outline": log.outline(),
            "last_event_id": log.position + (UNSEEN if worker_id is None else 1),
            "finished_at": now(),
        }
        if not statements.writes_in_one_round_trip():
            _DROP.all(**ours)
        statements.run_last(
            _SETTLE,
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
    return Stored({**known, **ended}, message)


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
    message_id: str, log: ReplyLog, ending: Ending, place: dict[str, Any], *, is_first: bool
) -> dict[str, Any] | None:
    """Append the reply to the conversation; of a reply that failed before its first word there is no message."""
    user_id, content, tool_calls = place["user_id"], log.text_of(TEXT), log.tool_calls()
    if not content and tool_calls is None and ending.status != "completed":
        return None
    status = "incomplete" if ending.status == "failed" else ending.status
    if not is_first and _HAS_MESSAGE.first(owner=user_id, message=message_id) is not None:
        return messages.replace_reply(
            user_id=user_id, message_id=message_id, content=content, status=status, tool_calls=tool_calls
        )
    return messages.append_reply(
        **place, message_id=message_id, content=content, status=status, tool_calls=tool_calls
    )


def reap_abandoned(*, user_id: str | None = None) -> None:
    """Settle replies whose worker has died as incomplete, with the text that was durable: one user's, or all.

    One that can't be settled stays as it is, and stops no other. Raises Unavailable.
    """
    for row in _ABANDONED.all(moment=now()):
        owner, completion_id = map(str, row)
        if user_id not in (None, owner):
            continue
        try:
            stored = read(user_id=owner, completion_id=completion_id)
            if stored is not None:
                reap(stored)
        except Unavailable:
            raise
        except Exception:
            log.exception("an abandoned reply could not be settled", extra={"completion_id": completion_id})


def reap(stored: Stored) -> None:
    """Settle a reply whose worker has died as incomplete, with the text that was durable; nothing if it lives."""
    known = stored.row
    user_id, conversation_id = known["user_id"], known["conversation_id"]
    log = ReplyLog(read_pieces(user_id=user_id, completion_id=known["id"], begin=0))
    text = log.text_of(TEXT) + log.text_of(REASONING) + (log.tool_calls() or "")
    ending = Ending(
        status="incomplete",
        finish_reason=WORKER_LOST,
        problem=problem_body(500, WORKER_LOST, "The server that wrote this reply was stopped."),
        prompt_tokens=known["prompt_tokens"],
        completion_tokens=tokens_of(text),
        usage_estimated=True,
    )
    _settle(user_id, conversation_id, known, log, ending, worker_id=None)
