"""A query to the index and what it finds, whichever database it runs on; and the scan that goes on where an index
would take too long."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from ..search_index.lexemes import conversation_lexeme
from .query import Query

PATIENCE_S = 0.1  # to begin with another part of the index, or another batch of messages
FIRST_ID, LAST_ID = str(UUID(int=0)), str(UUID(int=2**128 - 1))

# Some messages before an id, newest first, each with whether it matches; None where that took longer than so many
# seconds. Arguments: the id, how many rows, seconds.
Batch = Callable[[str, int, float], list[tuple[str, bool]] | None]


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """A query for the newest `count` messages that match, before the one with the id `before`."""

    user_id: str
    query: Query
    count: int
    before: str | None = None
    conversation_id: str | None = None
    skips_long: bool = False  # on Postgres the messages of several rows, which are found by themselves

    @property
    def start(self) -> str:
        """Before which id to begin."""
        return self.before or LAST_ID

    @property
    def also(self) -> tuple[str, ...]:
        """Lexemes that are required besides the words."""
        return (conversation_lexeme(self.conversation_id),) if self.conversation_id else ()


@dataclass(frozen=True, slots=True)
class Candidates:
    """Ids of messages, newest first; and where to go on if not everything was searched, as an id."""

    ids: list[str]
    resume_before: str | None = None


def scan(batch: Batch, *, before: str, count: int, rows: int, deadline: float) -> Candidates:
    """Look at messages one by one, newest first, until there are `count` matches or the time is over.

    A batch of large messages that takes too long is tried again with fewer; one message is always looked at, so that
    whoever follows `resume_before` comes to an end.
    """
    found: list[str] = []
    while True:
        left_s = max(deadline - time.monotonic(), 0.01)
        messages = batch(before, rows, left_s if rows > 1 else 60.0)
        if messages is None:
            rows = max(rows // 8, 1)
            continue
        found += [message_id for message_id, matches in messages if matches]
        if len(found) >= count:
            return Candidates(found[:count])
        if len(messages) < rows:
            return Candidates(found)
        before = messages[-1][0]
        if time.monotonic() > deadline:
            return Candidates(found, resume_before=before)


def merged(some: Candidates, others: Candidates, *, count: int) -> Candidates:
    """The newest of both, as far as both were searched."""
    ids = sorted({*some.ids, *others.ids}, reverse=True)
    ends = [one.resume_before for one in (some, others) if one.resume_before is not None]
    if not ends:
        return Candidates(ids[:count])
    end = max(ends)
    searched = [message_id for message_id in ids if message_id >= end]
    return Candidates(searched[:count], resume_before=end)


def newest_before(message_id: str) -> str:
    """The greatest id that is found before an id; any before LAST_ID."""
    return LAST_ID if message_id == LAST_ID else id_before(message_id)


def id_before(message_id: str) -> str:
    """The greatest id that is less. Ids of any version may have been imported, so also neighbours."""
    return str(UUID(int=max(UUID(message_id).int - 1, 0)))
