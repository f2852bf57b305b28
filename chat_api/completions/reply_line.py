"""The log line of a reply that has ended: what an operator looks for when replies are slow, dear or refused."""

import logging
import time

from .run import Run

log = logging.getLogger("chat_api.reply")


def write_line(run: Run) -> None:
    """Log how a reply ended, and how long its first token and all of it took; never what it says."""
    row = run.ended.row if run.ended else {}
    problem = (run.ended.problem if run.ended else None) or {}
    first_s = run.first_token_s
    log.info(
        "reply",
        extra={
            "completion_id": run.completion.id,
            "user_id": run.completion.user_id,
            "provider_id": run.completion.provider_id,
            "model": run.completion.model,
            "status": row.get("status", "lost"),
            "code": problem.get("code"),
            "prompt_tokens": row.get("prompt_tokens"),
            "completion_tokens": row.get("completion_tokens"),
            "first_token_ms": None if first_s is None else _milliseconds(first_s - run.started_s),
            "duration_ms": _milliseconds(time.monotonic() - run.started_s),
        },
    )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
