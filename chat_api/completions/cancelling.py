"""Cancelling a reply, in whichever process it is written."""

from typing import Any

from . import service
from .event_stream import Reader
from .registry import run_registry
from .run import BY_USER

CANCEL_WAIT_S = 3.0  # a cancelled reply has ended before so long; the answer shows it then


def cancel_and_commit(*, user_id: str, completion_id: str) -> dict[str, Any]:
    """End a reply, and keep what has come of it; one that has ended stays as it is. The completion as it ended.

    Raises NotFound.
    """
    registry = run_registry()
    run = registry.find(user_id, completion_id)
    if run is not None:
        run.stop(BY_USER)
        run.wait(CANCEL_WAIT_S)
        return run.to_json()
    stored = service.find_completion(user_id=user_id, completion_id=completion_id)
    if stored.in_progress:
        service.cancel_completion_and_commit(user_id=user_id, completion_id=completion_id)
        reader = Reader(registry, user_id=user_id, completion_id=completion_id)
        stored = reader.wait(None, CANCEL_WAIT_S)
        if stored.in_progress:  # a living worker looks several times a second
            stored = service.end_cancelled_and_commit(stored=stored)
    return stored.to_json()
