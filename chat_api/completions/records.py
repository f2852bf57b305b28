"""A completion as it is stored, and as clients get it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from ..attachments import replies
from ..conversations.models import is_in_visible
from ..database.parameters import USER_ID, given
from ..database.statements import Statement
from ..llm.request import ChatRequest, Endpoint
from ..messages.models import MESSAGE, Message
from . import lease
from .models import (
    COMPLETION,
    COMPLETION_ROW,
    IN_PROGRESS,
    MAX_WARNING_LENGTH,
    MAX_WARNINGS,
    USAGE_DETAILS,
    Completion,
)
from .omissions import Omission, omissions_text
from .reply_log import ATTACHMENT, REASONING, TEXT, ReplyLog, rebuilt

COMPLETION_ID = given("completion_id")
THIS_COMPLETION = (Completion.user_id == USER_ID, Completion.id == COMPLETION_ID)
IS_RUNNING = Completion.status == sa.literal_column("'in_progress'")  # a literal, as in the partial index
READ = sa.select(*COMPLETION_ROW.columns, lease.IS_OVER.label("lease_is_over"), *MESSAGE.columns).join_from(
    Completion,
    Message,
    sa.and_(Message.user_id == Completion.user_id, Message.id == Completion.message_id),
    isouter=True,
)
_GET = Statement(READ.where(*THIS_COMPLETION, is_in_visible(Completion.user_id, Completion.conversation_id)))


class KeptAs(NamedTuple):
    """As what a completion is kept for its client."""

    metadata: Mapping[str, str]
    is_listed: bool  # in the list that shows what was to be stored; others are only in that of all

    @property
    def columns(self) -> dict[str, Any]:
        """As they are stored."""
        return {"is_listed": self.is_listed, "client_metadata": orjson.dumps(self.metadata).decode()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedCompletion:
    """A completion that begins: all that its producer needs, without the database."""

    id: str
    user_id: str
    conversation_id: str
    branch_id: str | None
    message_id: str
    provider_id: str
    model: str
    worker_id: str
    created_at: datetime
    prompt_tokens: int  # estimated
    omitted_messages: int
    omitted_attachments: tuple[Omission, ...]
    warnings: tuple[str, ...]
    settings_version: int  # of the provider, see llm_providers.learned_options
    endpoint: Endpoint
    request: ChatRequest | None  # None once it is being sent: it may take megabytes, and a reply half an hour
    parent: dict[str, Any]  # the message that it answers
    asked: str | None = None  # see models.Completion
    kept_as: KeptAs | None = None
    path_before: str | None = None  # where the active path goes back to if nothing comes of it

    def to_row(self) -> dict[str, Any]:
        """All columns, as they are stored at the beginning."""
        return dict.fromkeys(COMPLETION_ROW.names) | {
            "id": self.id,
            "user_id": self.user_id,
            "conversation_id": self.conversation_id,
            "parent_id": self.parent["id"],
            "branch_id": self.branch_id,
            "message_id": self.message_id,
            "provider_id": self.provider_id,
            "model": self.model,
            "status": IN_PROGRESS,
            "prompt_tokens": self.prompt_tokens,
            "usage_estimated": True,
            "omitted_messages": self.omitted_messages,
            "omitted_attachments": omissions_text(self.omitted_attachments),
            "warnings": warnings_text(self.warnings),
            "worker_id": self.worker_id,
            "cancel_requested": False,
            "asked": self.asked,
            **(self.kept_as.columns if self.kept_as else {}),
            "created_at": self.created_at,
        }


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """A completion as the database has it."""

    row: dict[str, Any]
    message: dict[str, Any] | None
    lease_is_over: bool = False  # when it was read
    attachments: tuple[dict[str, Any] | None, ...] = ()  # that the model made; None for one that is gone

    @property
    def in_progress(self) -> bool:
        """Whether it has not been finalized yet."""
        return self.row["status"] == IN_PROGRESS

    @property
    def is_abandoned(self) -> bool:
        """Whether the worker that wrote it is taken for dead."""
        return self.in_progress and self.lease_is_over

    @property
    def problem(self) -> dict[str, Any] | None:
        """Why it did not end well, as a problem (RFC 9457)."""
        return orjson.loads(self.row["problem"]) if self.row["problem"] else None

    @property
    def last_event_id(self) -> int:
        """The id of the last event of its stream, which an import need not have; of a completion that has ended."""
        stored: int | None = self.row["last_event_id"]
        return self.log().position + 1 if stored is None else stored

    def log(self) -> ReplyLog:
        """The whole reply of a completion that has ended."""
        message = self.message or {}
        return rebuilt(
            self.row["outline"] or "[]",
            text=message.get("content", ""),
            reasoning=self.row["reasoning"] or "",
            tool_calls=message.get("tool_calls", []),
            sources=message.get("sources", []),
            attachments=self.attachments,
        )

    def to_json(self) -> dict[str, Any]:
        """The completion as clients get it."""
        return _to_json(self.row, self.message, self.problem)


def _to_json(
    row: Mapping[str, Any], message: dict[str, Any] | None, problem: dict[str, Any] | None
) -> dict[str, Any]:
    warnings = orjson.loads(row["warnings"]) if row["warnings"] else []
    return {
        **COMPLETION.of(row),
        "omitted_attachments": orjson.loads(row["omitted_attachments"] or "[]"),
        "message": message,
        "usage": _usage_of(row),
        "warnings": warnings,
        "problem": problem,
    }


def _usage_of(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The usage, with the details that the provider gave."""
    prompt_tokens, completion_tokens = row["prompt_tokens"], row["completion_tokens"]
    if prompt_tokens is None or completion_tokens is None:  # an import may have only one
        return None
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        **{name: row[name] for name in USAGE_DETAILS if row[name] is not None},
        "estimated": bool(row["usage_estimated"]),
    }


def warnings_text(warnings: Sequence[str]) -> str | None:
    """Warnings as they are stored; None where there are none."""
    texts = [warning[:MAX_WARNING_LENGTH] for warning in warnings[:MAX_WARNINGS]]
    return orjson.dumps(texts).decode() if texts else None


def record_of(row: Sequence[Any]) -> StoredCompletion:
    """The completion of a row whose values begin with the columns of READ."""
    lease_is_over, *message = row[len(COMPLETION_ROW.names) :]
    stored = MESSAGE.to_json(message) if message[0] is not None else None
    return StoredCompletion(COMPLETION_ROW.to_values(row), stored, bool(lease_is_over))


def in_progress_to_json(row: Mapping[str, Any], log: ReplyLog) -> dict[str, Any]:
    """A completion in progress with what has come of its reply, a message that has no position yet."""
    message = MESSAGE.of(
        {
            "id": row["message_id"],
            "conversation_id": row["conversation_id"],
            "parent_id": row["parent_id"],
            "role": "assistant",
            "content": log.text_of(TEXT),
            "status": IN_PROGRESS,
            "created_at": row["created_at"],
            "tool_calls": log.tool_calls(),
            "sources": log.sources(),
            "parts": log.parts([each["id"] for each in log.attachments()]),
        }
    )
    return _to_json({**row, "reasoning": log.text_of(REASONING) or None}, message, None)


def start_to_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """The completion as it was when it began, whatever has become of it."""
    ends = ("finish_reason", "completion_tokens", *USAGE_DETAILS, "finished_at")
    return in_progress_to_json({**row, **dict.fromkeys(ends), "status": IN_PROGRESS}, ReplyLog())


def find_record(*, user_id: str, completion_id: str) -> StoredCompletion | None:
    """The completion of the user, None where there is none."""
    row = _GET.first(user_id=user_id, completion_id=completion_id)
    return None if row is None else with_files(record_of(row))


def with_files(stored: StoredCompletion) -> StoredCompletion:
    """The same with what is known of its files, if it has some, as is seldom so."""
    if f'"{ATTACHMENT}"' not in (stored.row["outline"] or "") or stored.message is None:
        return stored
    known = replies.describe_attachments(user_id=stored.row["user_id"], message_id=str(stored.message["id"]))
    parts = [part for part in stored.message.get("parts", ()) if part["type"] == ATTACHMENT]
    return replace(stored, attachments=tuple(known.get(part["attachment_id"]) for part in parts))
