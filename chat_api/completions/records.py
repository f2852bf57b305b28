"""A completion as it is stored, and as clients get it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from ..database.columns import Id, now, seconds_of
from ..database.statements import Statement
from ..llm.request import ChatRequest, Endpoint
from ..messages.models import MESSAGE, Message
from .context import Context
from .models import IN_PROGRESS, Completion
from .reply_log import REASONING, TEXT, ReplyLog, rebuilt

# what the statements of completions have in common
OWNER, ID = sa.bindparam("owner", type_=Id()), sa.bindparam("completion", type_=Id())
OURS = (Completion.user_id == OWNER, Completion.id == ID)
IS_RUNNING = Completion.status == sa.literal_column("'in_progress'")  # a literal, as in the partial index
_FIELDS = ("user_id", "id", "conversation_id", "parent_id", "message_id", "provider_id", "model", "status",
           "finish_reason", "problem", "prompt_tokens", "completion_tokens", "usage_estimated", "omitted_messages",
           "reasoning", "outline", "last_event_id", "worker_id", "lease_expires_at", "cancel_requested", "created_at",
           "finished_at")  # fmt: skip
_ID_FIELDS = tuple(name for name in _FIELDS if isinstance(Completion.__table__.c[name].type, Id))
READ = sa.select(
    *(getattr(Completion, name) for name in _FIELDS),
    Message.parent_id,
    Message.position,
    Message.content,
    Message.status,
    Message.created_at,
    Message.tool_calls,
).join_from(
    Completion,
    Message,
    sa.and_(Message.user_id == Completion.user_id, Message.id == Completion.message_id),
    isouter=True,
)
_GET = Statement(READ.where(*OURS))


@dataclass(frozen=True, slots=True)
class StartedCompletion:
    """A completion that has just been stored as in progress: all that its producer needs, without the database."""

    id: str
    user_id: str
    conversation_id: str
    message_id: str
    provider_id: str
    model: str
    created_at: datetime
    context: Context
    endpoint: Endpoint
    request: ChatRequest
    parent: dict[str, Any]  # the message that it answers

    def to_row(self) -> dict[str, Any]:
        """The row of the completion, as far as it matters while it is in progress."""
        return dict.fromkeys(_FIELDS) | {
            "user_id": self.user_id,
            "id": self.id,
            "conversation_id": self.conversation_id,
            "parent_id": self.parent["id"],
            "message_id": self.message_id,
            "provider_id": self.provider_id,
            "model": self.model,
            "status": IN_PROGRESS,
            "omitted_messages": self.context.omitted,
            "created_at": self.created_at,
        }


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """A completion as the database has it."""

    row: dict[str, Any]
    message: dict[str, Any] | None

    @property
    def in_progress(self) -> bool:
        """Whether it has not been finalized yet."""
        return self.row["status"] == IN_PROGRESS

    @property
    def is_abandoned(self) -> bool:
        """Whether the worker that wrote it is taken for dead."""
        return self.in_progress and seconds_of(self.row["lease_expires_at"]) < now().timestamp()

    @property
    def problem(self) -> dict[str, Any] | None:
        """Why it did not end well, as a problem (RFC 9457)."""
        return orjson.loads(self.row["problem"]) if self.row["problem"] else None

    def log(self) -> ReplyLog:
        """The whole reply of a completion that has ended."""
        message = self.message or {}
        return rebuilt(
            self.row["outline"] or "[]",
            text=message.get("content", ""),
            reasoning=self.row["reasoning"] or "",
            tool_calls=message.get("tool_calls", []),
        )

    def to_json(self) -> dict[str, Any]:
        """The completion as clients get it."""
        return _to_json(self.row, self.message, self.problem)


def _to_json(
    row: Mapping[str, Any], message: dict[str, Any] | None, problem: dict[str, Any] | None
) -> dict[str, Any]:
    usage = None
    if row["completion_tokens"] is not None:
        usage = {
            "prompt_tokens": row["prompt_tokens"],
            "completion_tokens": row["completion_tokens"],
            "total_tokens": row["prompt_tokens"] + row["completion_tokens"],
            "estimated": bool(row["usage_estimated"]),
        }
    return {
        "id": row["id"],
        "conversation_id": row["conversation_id"],
        "parent_id": row["parent_id"],
        "provider_id": row["provider_id"],
        "model": row["model"],
        "status": row["status"],
        "message": message,
        "reasoning": row["reasoning"],
        "usage": usage,
        "finish_reason": row["finish_reason"],
        "omitted_messages": row["omitted_messages"],
        "problem": problem,
        "created_at": row["created_at"],
        "finished_at": row["finished_at"],
    }


def record_of(row: tuple[Any, ...]) -> StoredCompletion:
    """The completion of a row that READ selected."""
    fields = dict(zip(_FIELDS, row[: len(_FIELDS)], strict=True))
    for name in _ID_FIELDS:  # Postgres' driver has a type of its own for ids
        fields[name] = str(fields[name])
    parent_id, position, content, status, created_at, tool_calls = row[len(_FIELDS) :]
    if position is None:
        return StoredCompletion(fields, None)
    message = _message_to_json(
        fields["message_id"],
        fields["conversation_id"],
        None if parent_id is None else str(parent_id),
        position,
        content,
        status,
        created_at,
        tool_calls,
    )
    return StoredCompletion(fields, message)


def _message_to_json(
    message_id: str,
    conversation_id: str,
    parent_id: str | None,
    position: int | None,
    content: str,
    status: str,
    created_at: Any,
    tool_calls: str | None,
) -> dict[str, Any]:
    """A reply as a message; while it is in progress it has no position yet."""
    return MESSAGE.of(
        {
            "id": message_id,
            "conversation_id": conversation_id,
            "parent_id": parent_id,
            "position": position,
            "role": "assistant",
            "content": content,
            "status": status,
            "created_at": created_at,
            "tool_calls": tool_calls,
        }
    )


def in_progress_to_json(row: Mapping[str, Any], log: ReplyLog) -> dict[str, Any]:
    """A completion in progress with what is there of its reply."""
    message = _message_to_json(
        row["message_id"],
        row["conversation_id"],
        row["parent_id"],
        None,
        log.text_of(TEXT),
        IN_PROGRESS,
        row["created_at"],
        log.tool_calls(),
    )
    return _to_json({**row, "reasoning": log.text_of(REASONING) or None}, message, None)


def start_to_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """The completion as it was when it began, whatever has become of it."""
    ends = ("finish_reason", "problem", "completion_tokens", "finished_at")
    return in_progress_to_json({**row, **dict.fromkeys(ends), "status": IN_PROGRESS}, ReplyLog())


def find_record(*, user_id: str, completion_id: str) -> StoredCompletion | None:
    """The completion of the user, None where there is none."""
    row = _GET.first(owner=user_id, completion=completion_id)
    return None if row is None else record_of(row)
