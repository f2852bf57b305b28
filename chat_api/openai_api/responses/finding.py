"""Responses as they are stored, or being written: found by their ids, and as they are now."""

from typing import Any

from ...completions import service as completions
from ...completions.checkpoints import read_checkpoints
from ...completions.records import StoredCompletion
from ...completions.registry import run_registry
from ...completions.removal import is_deleted
from ...completions.reply_log import START, ReplyLog
from ...completions.run import Run
from ...errors import NotFound
from .objects import response_object, stored_object


def find_response(user_id: str, completion_id: str) -> tuple[Run | None, StoredCompletion | None]:
    """The response's run where it is of this process, else what is stored of it. Raises NotFound."""
    run = run_registry().find(user_id, completion_id)
    if run is not None and run.is_stored:
        return run, None
    stored = completions.find_completion(user_id=user_id, completion_id=completion_id)
    if is_deleted(stored.row):
        raise NotFound("response")
    return None, stored


def current_object(
    user_id: str, completion_id: str, run: Run | None, stored: StoredCompletion | None = None
) -> dict[str, Any]:
    """The response with what has come of it so far."""
    if run is not None and run.ended is None:
        return response_object(run.completion.to_row(), run.log.after(START))
    if run is not None and run.ended is not None:
        return stored_object(run.ended)
    stored = stored or completions.find_completion(user_id=user_id, completion_id=completion_id)
    if not stored.in_progress:
        return stored_object(stored)
    log = ReplyLog(read_checkpoints(user_id=user_id, completion_id=completion_id, begin=START))
    return response_object(stored.row, log.after(START))
