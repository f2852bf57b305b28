"""The response object: a completion of ours, with what its client asked for. Pure functions."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from ...completions.records import StoredCompletion
from ...completions.reply_log import Chunk
from ...database.columns import seconds_of
from ...llm import error_codes
from .. import ids
from ..errors import MEANINGS
from ..items_out import COMPLETED, IN_PROGRESS, INCOMPLETE, reply_items
from .requests import DEFAULTS, ResponseRequest

FAILED, CANCELLED = "failed", "cancelled"
# why a response is incomplete: the ends of a reply that are not the service's or the provider's failure
REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


def asked_text(request: ResponseRequest, *, input_count: int) -> str:
    """What answers repeat, as it is stored with the completion. `input_count` are the messages of its input."""
    asked = {
        "dialect": "responses",
        "model": request.model,
        "echo": dict(request.echo),
        "previous_id": request.previous_id,
        "names_conversation": request.conversation_id is not None,
        "input_count": input_count,
    }
    return orjson.dumps(asked).decode()


def asked_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for a completion with this row; of those of other dialects little is known."""
    asked: dict[str, Any] = orjson.loads(row["asked"]) if row.get("asked") else {}
    return asked


def response_object(
    row: Mapping[str, Any],
    chunks: Iterable[Chunk],
    problem: Mapping[str, Any] | None = None,
    erased: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The response of a completion with this row, of which these chunks have come, and these have been `erased`."""
    status, reason = status_of(row)
    item_status = status if status in (COMPLETED, IN_PROGRESS) else INCOMPLETE
    return {
        **_head(row),
        "status": status,
        "completed_at": seconds(row["finished_at"]) if status == COMPLETED else None,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": reply_items(str(row["message_id"]), chunks, status=item_status, erased=erased),
        "error": error_of(problem) if status == FAILED else None,
        "usage": None if status == IN_PROGRESS else usage_of(row),
    }


def begun_object(row: Mapping[str, Any]) -> dict[str, Any]:
    """The response as it was when it began, whatever has become of it."""
    return response_object({**row, "status": IN_PROGRESS}, ())


def stored_object(stored: StoredCompletion) -> dict[str, Any]:
    """The response of a completion that has ended."""
    return response_object(stored.row, stored.log().after(0), stored.problem, erased_of(stored))


def erased_of(stored: StoredCompletion) -> Mapping[str, str] | None:
    """Which parts of the reply were erased."""
    return (stored.message or {}).get("erased")


def status_of(row: Mapping[str, Any]) -> tuple[str, str | None]:
    """The response's status, and why it is incomplete."""
    if row["status"] != INCOMPLETE:
        return row["status"], None
    reason = REASONS.get(row["finish_reason"] or "")
    return (INCOMPLETE, reason) if reason else (FAILED, None)


def error_of(problem: Mapping[str, Any] | None) -> dict[str, Any]:
    """Why a response failed. The codes of this dialect are few; ours is the type."""
    problem = problem or {"code": "internal_error", "detail": "The reply was broken off."}
    meaning = MEANINGS.get(problem["code"])
    if problem["code"] == error_codes.RATE_LIMITED:
        code = "rate_limit_exceeded"
    else:
        code = "invalid_prompt" if meaning is not None and meaning.status == 400 else "server_error"
    return {"code": code, "message": problem["detail"], "type": problem["code"], "param": None}


def _head(row: Mapping[str, Any]) -> dict[str, Any]:
    asked = asked_of(row)
    conversation = {"id": ids.written(ids.CONVERSATION, str(row["conversation_id"]))}
    previous_id = asked.get("previous_id")
    return {
        "id": ids.written(ids.RESPONSE, str(row["id"])),
        "object": "response",
        "created_at": seconds(row["created_at"]),
        "model": asked.get("model", row["model"]),
        "previous_response_id": ids.written(ids.RESPONSE, previous_id) if previous_id else None,
        "conversation": conversation if asked.get("names_conversation") else None,
        **DEFAULTS,
        **asked.get("echo", {}),
    }


def usage_of(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The tokens of a completion with this row."""
    taken, given = row["prompt_tokens"], row["completion_tokens"]
    if taken is None or given is None:  # an import may have only one
        return None
    return {
        "input_tokens": taken,
        "input_tokens_details": {"cached_tokens": row.get("cached_tokens") or 0, "cache_write_tokens": 0},
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": row.get("reasoning_tokens") or 0},
        "total_tokens": taken + given,
    }


def seconds(moment: Any) -> int | None:
    """A moment as this dialect has it."""
    return None if moment is None else int(seconds_of(moment))
