"""Requests for a reply that an SDK sends again: they get the reply that is there, or one to the same messages."""

from collections.abc import Callable
from dataclasses import replace

from ..completions import service as completions
from ..completions.answering import Started
from ..completions.records import StoredCompletion
from ..completions.registry import run_registry
from ..completions.turns import Turn
from ..errors import NotFound
from ..messages.histories import Place

# so long after its client has left an SDK may send a request again; they wait a second at most
PATIENCE_S = 3.0


def attach_or_start_and_commit(turn: Turn, start: Callable[[Turn], Started]) -> Started:
    """The reply that an earlier try of this request has started, or else what `start` starts.

    Where nothing came of the earlier one, the new reply answers the messages that it has stored.
    """
    earlier = _find_earlier_and_commit(turn)
    if earlier is None:
        return start(turn)
    row = earlier.row
    if earlier.in_progress or earlier.message is not None:
        return row["id"], run_registry().find(turn.user_id, row["id"]), False
    place = Place(len(turn.drafts), str(row["conversation_id"]), str(row["parent_id"]))
    return start(replace(turn, place=place))


def _find_earlier_and_commit(turn: Turn) -> StoredCompletion | None:
    """The completion of an earlier try; None where there was none, or it has been deleted since."""
    ids = turn.attempt.find_earlier_and_commit() if turn.attempt else None
    if ids is None:
        return None
    try:
        return completions.find_completion(user_id=turn.user_id, completion_id=ids[0])
    except NotFound:
        return None
