"""Where a history that a client sends is stored already: the longest part of it, found by its chain hashes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..database.id_lists import ids_value, select_listed
from ..database.statements import Statement
from .conditions import IN_VISIBLE
from .models import Message

NEAR_END = 8  # messages at the end of a history that are looked up first: mostly all before them is stored
MAX_FOUND = 1000  # messages that say the same after the same, of a user


class Place(NamedTuple):
    """Where a part of a history ends that is stored."""

    length: int  # how many of its messages are stored
    conversation_id: str
    message_id: str | None  # the last of these; None for the beginning of the conversation


def _stored(on_postgres: bool) -> sa.Executable:
    columns = (Message.chain_hash, Message.conversation_id, Message.id)
    found: sa.Select[Any] = select_listed(columns, Message.chain_hash, on_postgres=on_postgres)
    return found.where(IN_VISIBLE).limit(MAX_FOUND)


_STORED = Statement(_stored)


def find_longest(
    *, user_id: str, chain_hashes: Sequence[str], shortest: int, conversation_id: str | None = None
) -> Place | None:
    """The longest part of a history with these chain hashes that the user has stored, in any conversation or in one.

    Of equal ones the newest; None where nothing of `shortest` messages or more is stored.
    """
    wanted = list(enumerate(chain_hashes, 1))[shortest - 1 :]
    for part in (wanted[-NEAR_END:], wanted[:-NEAR_END]):
        if part and (place := _longest_of(user_id, part, conversation_id)):
            return place
    return None


def _longest_of(user_id: str, part: Sequence[tuple[int, str]], conversation_id: str | None) -> Place | None:
    rows = _STORED.all(user_id=user_id, ids=ids_value(chain_hash for _, chain_hash in part))
    lengths = {chain_hash: length for length, chain_hash in part}
    places = [Place(lengths[str(found)], str(where), str(id_)) for found, where, id_ in rows]
    return max(
        (place for place in places if conversation_id in (None, place.conversation_id)),
        key=lambda place: (place.length, place.message_id),
        default=None,
    )
