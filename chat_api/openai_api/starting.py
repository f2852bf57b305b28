"""What the views of this dialect's completions do alike: start the reply of a turn, wherever it belongs."""

from collections.abc import Mapping
from typing import Any

from ..completions import answering
from ..completions import service as completions
from ..completions.run import Run
from ..completions.turns import Turn, place_turn
from ..database.session import db
from ..errors import Conflict
from .errors import locked

IN_CONVERSATION = "X-Conversation-Id"
ON_DISCONNECT = "X-On-Disconnect"
# how an answer is sent, not what it says: a request with the key of another one may have it in another way
WAYS = ("stream", "stream_options")


def fingerprint_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What an Idempotency-Key stands for, of a body."""
    return {name: value for name, value in body.items() if name not in WAYS}


def start_once(turn: Turn, body: dict[str, object]) -> answering.Started:
    """Start a reply, or find the one that this Idempotency-Key has started; and whether it is new.

    Where another reply is being written to the same history, and the client names no place for it, its messages begin
    a new one: it knows of no conversation that could be busy.
    """
    try:
        return answering.start_once(place_turn(turn=turn), body)
    except Conflict as error:
        if type(error) is not Conflict:
            raise
        if turn.conversation_id is not None:
            raise locked(error) from None
        if not turn.recognises:
            raise
    db.session.rollback()
    return answering.start_once(place_turn(turn=turn, is_new=True), body)


def conversation_of(user_id: str, completion_id: str, run: Run | None) -> str:
    """The id of the conversation that a reply is stored in. Raises NotFound."""
    if run is not None:
        return run.completion.conversation_id
    stored = completions.find_completion(user_id=user_id, completion_id=completion_id)
    return str(stored.row["conversation_id"])
