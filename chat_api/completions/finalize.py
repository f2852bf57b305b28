"""How a reply ends: it becomes a message, once, whatever became of the worker that wrote it."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from ..attachments import replies
from ..conversations import service as conversations
from ..conversations import titles
from ..conversations.models import IS_VISIBLE, Conversation
from ..database import statements
from ..database.columns import now
from ..database.dialect import is_postgres
from ..database.parameters import MESSAGE_ID, USER_ID, named_new, new
from ..database.session import db
from ..database.statements import Statement
from ..errors import NotFound, Unavailable, problem_body
from ..messages import service as messages
from ..messages.active_path import LongMove, set_active_leaf
from ..messages.models import Message
from ..search_index.writer import Words, words_of
from . import lease
from .checkpoints import read_checkpoints
from .models import IN_PROGRESS, Completion, CompletionCheckpoint
from .records import (
    COMPLETION_ID,
    IS_RUNNING,
    THIS_COMPLETION,
    StartedCompletion,
    StoredCompletion,
    find_record,
    in_progress_to_json,
    warnings_text,
)
from .reply_log import REASONING, TEXT, ReplyLog
from .token_estimates import tokens_of

# Events that a client may have seen and that were not durable when a worker died have ids below this distance: the
# last event's id is greater, so that a client that saw more does not mistake the end for an event it knows.
UNSEEN = 2**26
WORKER_LOST = "worker_lost"

log = logging.getLogger(__name__)

# Locks both rows: nobody else appends or finalizes until the commit. Postgres locks them in the order of FROM:
# the conversation first, as deletions of it or of its messages do.
_STATE = Statement(
    sa.select(
        Completion.status,
        Completion.worker_id,
        lease.IS_OVER.label("is_over"),
        Completion.finish_reason,
        Conversation.active_leaf_id,
        Conversation.title,
    )
    .join_from(
        Conversation,
        Completion,
        sa.and_(Conversation.user_id == Completion.user_id, Conversation.id == Completion.conversation_id),
    )
    .where(*THIS_COMPLETION, IS_VISIBLE)
    .with_for_update()
)
_delete_checkpoints = sa.delete(CompletionCheckpoint).where(
    CompletionCheckpoint.user_id == USER_ID, CompletionCheckpoint.completion_id == COMPLETION_ID
)
_ENDED_COLUMNS = ("status", "finish_reason", "problem", "prompt_tokens", "completion_tokens", "cached_tokens",
                  "reasoning_tokens", "usage_estimated", "reasoning", "warnings", "outline", "last_event_id",
                  "finished_at")  # fmt: skip


def _finalize_row(on_postgres: bool) -> sa.Executable:
    """Store how it ended; Postgres deletes the checkpoints in the same round trip."""
    values = {name: new(getattr(Completion, name)) for name in _ENDED_COLUMNS}
    finalized = sa.update(Completion).where(*THIS_COMPLETION).values(values)
    return finalized.add_cte(_delete_checkpoints.cte("deleted")) if on_postgres else finalized


_FINALIZE, _DELETE_CHECKPOINTS = Statement(_finalize_row), Statement(_delete_checkpoints)
_HAS_MESSAGE = Statement(sa.select(Message.id).where(Message.user_id == USER_ID, Message.id == MESSAGE_ID))
# goes through all users: the in-progress ones are few, whatever the number of those that ended
_all_abandoned = sa.select(Completion.user_id, Completion.id).where(IS_RUNNING, lease.IS_OVER)
_ABANDONED, _ABANDONED_OF_USER = (
    Statement(_all_abandoned),
    Statement(_all_abandoned.where(Completion.user_id == USER_ID)),
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
    cached_tokens: int | None = None  # None: the provider does not say
    reasoning_tokens: int | None = None
    warnings: tuple[str, ...] | None = None  # None: those of the beginning
    sources: str | None = None  # of the reply, as JSON; None: as the log has them
    provider_state: str | None = None  # of the message, as it is stored


def finalize_and_commit(
    completion: StartedCompletion, *, worker_id: str, log: ReplyLog, outcome: Outcome
) -> StoredCompletion:
    """Store the end of a reply: its message, its usage and its status, in one transaction. The first caller wins.

    One exception: a worker that was taken for dead and comes back, with more of the reply than was durable when
    it was finalized, overwrites that. Returns what is stored then. Raises NotFound where the conversation has been
    deleted.
    """
    words = words_of(log.text_of(TEXT))
    with statements.transaction():
        finalized = _finalize(completion.to_row(), log, words, outcome, worker_id=worker_id)
        if finalized and finalized.message is None and outcome.status == "failed":
            _go_back(completion)
    finalized = finalized or find_record(user_id=completion.user_id, completion_id=completion.id)
    if finalized is None:
        raise NotFound("completion")
    return finalized


def _go_back(completion: StartedCompletion) -> None:
    """Let the active path end where it did before a turn of which nothing has come, unless it has gone on since.

    The conversation is locked. A move that would take long is not made: the path is a view, and nothing is lost.
    """
    scope = {"user_id": completion.user_id, "conversation_id": completion.conversation_id}
    if completion.path_before is None:
        return
    if conversations.get_conversation(**scope)["active_leaf_id"] != completion.parent["id"]:
        return
    with suppress(NotFound, LongMove):
        set_active_leaf(**scope, message_id=completion.path_before)


def _finalize(
    row: Mapping[str, Any],
    log: ReplyLog,
    words: Words,
    outcome: Outcome,
    *,
    worker_id: str | None,
    may_be_alive: bool = False,
) -> StoredCompletion | None:
    """Store the end of the completion with this row, or return None where it has ended already or is deleted.

    Without `worker_id` only one whose lease is over is finalized, unless its worker `may_be_alive`.
    """
    this_completion = {"user_id": row["user_id"], "completion_id": row["id"]}
    state = _STATE.first(**this_completion)
    if state is None:
        return None
    status, writer_id, is_over, reason, leaf_id, title = state
    is_first = status == IN_PROGRESS
    if worker_id is None:
        may_finalize = is_first and (may_be_alive or bool(is_over))
    else:
        may_finalize = is_first or (str(writer_id) == worker_id and reason == WORKER_LOST)
    if not may_finalize:
        return None
    message = _store_reply(row, log, words, outcome, str(leaf_id), is_first=is_first)
    if message is not None and not title:
        scope = {"user_id": row["user_id"], "conversation_id": row["conversation_id"]}
        titles.set_missing_title(**scope, text=messages.first_words(**scope))
    ended = {
        **_end_of(log, outcome),
        "warnings": row["warnings"] if outcome.warnings is None else warnings_text(outcome.warnings),
        "last_event_id": log.position + (UNSEEN if worker_id is None else 1),
    }
    if not is_postgres(db.engine):
        _DELETE_CHECKPOINTS.all(**this_completion)
    statements.execute_at_end(_FINALIZE, **this_completion, **named_new(ended))
    return StoredCompletion({**row, **ended}, message)


def _end_of(log: ReplyLog, outcome: Outcome) -> dict[str, Any]:
    """The columns of a completion that say how its reply ended; whether or not it is stored."""
    return {
        "status": outcome.status,
        "finish_reason": outcome.finish_reason,
        "problem": orjson.dumps(outcome.problem).decode() if outcome.problem else None,
        "prompt_tokens": outcome.prompt_tokens,
        "completion_tokens": outcome.completion_tokens,
        "cached_tokens": outcome.cached_tokens,
        "reasoning_tokens": outcome.reasoning_tokens,
        "usage_estimated": outcome.usage_estimated,
        "reasoning": log.text_of(REASONING) or None,
        "outline": log.outline(),
        "finished_at": now(),
    }


def _position_in_tree(row: Mapping[str, Any], leaf_id: str) -> dict[str, Any]:
    """How the reply is appended: at the end of the active path, or beside it where the path has left its parent.

    Messages that were appended since do not part the reply from the path, unless it was requested as a branch of its
    own.
    """
    parent_id = row["parent_id"]
    if leaf_id == parent_id:
        return {}
    if row["branch_id"] is None and messages.is_on_path(user_id=row["user_id"], message_id=parent_id):
        return {}
    return {"parent_id": parent_id, "stays_beside_path": True}


def _store_reply(
    row: Mapping[str, Any], log: ReplyLog, words: Words, outcome: Outcome, leaf_id: str, *, is_first: bool
) -> dict[str, Any] | None:
    """Append the reply to the conversation; of a reply that failed before its first word there is no message."""
    user_id, message_id = row["user_id"], row["message_id"]
    taken = replies.take_drafts(user_id=user_id, attachments=log.attachments())
    reply: dict[str, Any] = {
        "content": log.text_of(TEXT),
        "words": words,
        "tool_calls": log.tool_calls(),
        "sources": outcome.sources or log.sources(),
        "provider_state": outcome.provider_state,
        "status": "incomplete" if outcome.status == "failed" else outcome.status,
    }
    says_nothing = not reply["content"] and reply["tool_calls"] is None and not taken
    if says_nothing and outcome.status != "completed":
        return None
    ids = [each.id for each in taken]
    if not is_first and _HAS_MESSAGE.first(user_id=user_id, message_id=message_id) is not None:
        replies.attach_more(user_id=user_id, message_id=message_id, taken=taken)
        ids = [*replies.describe_attachments(user_id=user_id, message_id=message_id)]
        reply["parts"] = log.parts(ids)
        return messages.replace_reply(user_id=user_id, message_id=message_id, **reply)
    if taken:
        reply |= {"parts": log.parts(ids), "attachment_count": len(taken)}
    message = messages.append_message(
        user_id=user_id,
        conversation_id=row["conversation_id"],
        id=message_id,
        role="assistant",
        **reply,
        **_position_in_tree(row, leaf_id),
    )
    replies.attach(user_id=user_id, message_id=message_id, taken=taken)
    return message


def end_unstored(completion: StartedCompletion, *, log: ReplyLog, outcome: Outcome) -> StoredCompletion:
    """A completion of which nothing is stored, as if it were."""
    row = {
        **completion.to_row(),
        **_end_of(log, outcome),
        "warnings": warnings_text(outcome.warnings or ()),
        "last_event_id": log.position + 1,
    }
    message = in_progress_to_json(row, log)["message"]
    return StoredCompletion(row, message)


def reap_abandoned_and_commit(*, user_id: str | None = None) -> None:
    """Finalize replies whose worker has died as incomplete, with the text that was durable: one user's, or all.

    One that can't be finalized stays as it is and does not keep the others from it. Each is a transaction of its
    own; where `db.session` has one open, part of that. Raises Unavailable.
    """
    rows = _ABANDONED.all() if user_id is None else _ABANDONED_OF_USER.all(user_id=user_id)
    for row in rows:
        owner, completion_id = map(str, row)
        try:
            stored = find_record(user_id=owner, completion_id=completion_id)
            if stored is not None:
                reap_and_commit(stored)
        except Unavailable:
            raise
        except Exception:
            log.exception("an abandoned reply could not be finalized", extra={"completion_id": completion_id})


def reap_and_commit(stored: StoredCompletion) -> None:
    """Finalize a reply whose worker has died, with the text that was durable; nothing if it lives.

    It is incomplete, or cancelled where its user has cancelled it.
    """
    _reap_and_commit(stored, is_cancelled=bool(stored.row["cancel_requested"]))


def end_cancelled_and_commit(stored: StoredCompletion) -> None:
    """Finalize a reply as cancelled whose worker does not obey: it is dead, or stopped. The text that was durable
    stays. Nothing if it has ended."""
    _reap_and_commit(stored, is_cancelled=True, may_be_alive=True)


def _reap_and_commit(stored: StoredCompletion, *, is_cancelled: bool, may_be_alive: bool = False) -> None:
    row = stored.row
    log = ReplyLog(read_checkpoints(user_id=row["user_id"], completion_id=row["id"], begin=0))
    text = log.text_of(TEXT) + log.text_of(REASONING) + (log.tool_calls() or "")
    outcome = Outcome(
        status="cancelled" if is_cancelled else "incomplete",
        finish_reason="cancelled" if is_cancelled else WORKER_LOST,
        problem=None if is_cancelled else _worker_lost(),
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=tokens_of(text),
        usage_estimated=True,
    )
    words = words_of(log.text_of(TEXT))
    with statements.transaction():
        _finalize(row, log, words, outcome, worker_id=None, may_be_alive=may_be_alive)


def _worker_lost() -> dict[str, Any]:
    return problem_body(500, WORKER_LOST, "The server that wrote this reply was stopped.")
