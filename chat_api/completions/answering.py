"""What the views of all dialects do alike: start a reply once, read it for the caller, and answer with its events."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from flask import Response, current_app, request

from ..auth import guard
from ..errors import ProviderFailed
from ..idempotency import create_once, has_key
from ..messages.long_moves import after_long_moves_and_commit
from ..server.slots import Slot
from ..web.responses import json_response
from . import event_stream, turn_files
from .records import StartedCompletion, StoredCompletion
from .registry import run_registry
from .run import Run
from .turns import PlacedTurn, Turn, create_turn, create_turn_and_commit
from .unstored import begin_unstored

REPLAYED = "Idempotency-Replayed"  # the header of an answer that is not new
FIRST_SIGN_S = 1.0  # so long a stream waits for the provider: an error until then is one of HTTP


Started = tuple[str, Run | None, bool]
"""The completion's id, its run where this process writes it, and whether it is new."""


def start_once(placed: PlacedTurn, body: dict[str, Any]) -> Started:
    """Start the reply of a turn, or find the one that this Idempotency-Key has started.

    Raises Conflict where another reply is being written there.
    """
    with turn_files.kept_and_commit(placed) as ready, run_registry().take_slot() as slot:
        create = partial(
            create_turn if has_key() else create_turn_and_commit,
            placed=ready,
            worker_id=run_registry().worker_id,
            running_limit=current_app.config["MAX_STREAMS_PER_USER"],
        )
        return start_created(slot, user_id=placed.turn.user_id, body=body, create=create)


def start_created(
    slot: Slot, *, user_id: str, body: dict[str, Any], create: Callable[[], StartedCompletion]
) -> Started:
    """Start what is created, which takes the slot, or find what this Idempotency-Key has started."""
    registry = run_registry()
    # around the transaction of a key, which is looked up again after the moves
    answer, completion = after_long_moves_and_commit(
        lambda _: create_once(body, create, lambda created: json_response({"id": created.id}, 201))
    )
    if completion is not None:  # committed: from here a crash leaves a visible trace
        return completion.id, registry.start(completion, slot), True
    completion_id: str = answer.get_json()["id"]
    return completion_id, registry.find(user_id, completion_id), False


def start_unstored(turn: Turn) -> tuple[str, Run]:
    """Start a reply of which nothing is stored."""
    registry = run_registry()
    with registry.take_slot() as slot:
        completion = begin_unstored(turn=turn, worker_id=registry.worker_id)
        return completion.id, registry.start(completion, slot, is_stored=False)


def caller_reader(completion_id: str, **options: Any) -> event_stream.Reader:
    """The caller's reader of a completion, which notices when the caller leaves; `options` are those of `Reader`."""
    return event_stream.Reader(
        run_registry(),
        user_id=guard.caller().user_id,
        completion_id=completion_id,
        has_left=event_stream.watch(request.environ.get("gunicorn.socket")),
        check_token=guard.later_check(),
        **options,
    )


def require_first_sign(run: Run) -> None:
    """Wait for a first sign of the reply, a second at most. Raises ProviderFailed where it is a failure."""
    with run.changed:
        run.changed.wait_for(lambda: run.is_over or run.log.position > 0, FIRST_SIGN_S)
    if run.ended is not None:
        require_reply(run.ended)


def require_reply(stored: StoredCompletion) -> None:
    """Raise ProviderFailed for a completion of which nothing came."""
    if stored.row["status"] == "failed" and stored.problem is not None:
        raise ProviderFailed(stored.problem)


def event_response(
    events: Iterator[bytes], slot: Slot, headers: Mapping[str, str] = MappingProxyType({})
) -> Response:
    """A stream of events, which has this slot until it ends."""
    response = current_app.response_class(
        events, content_type=event_stream.CONTENT_TYPE, headers={**event_stream.HEADERS, **headers}
    )
    return slot.until_closed(response)
