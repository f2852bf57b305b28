"""How the words of a message stand in the index: what Postgres' `tsvector` and SQLite's FTS5 are given.

Every lexeme begins with six characters of its owner's id. So each user has words of their own in the index: a word
costs what the one user's messages make it cost, however many others use it. Two users with the same six
characters share that cost, never a result, for every statement names the user too.

Lexemes with a `~`, which no word has, say where a message is: its conversation, and for Postgres the slices of time
it lies in, for a GIN index knows no order.
"""

from collections.abc import Iterable
from operator import add

LONGEST_SLICE_DIGITS = 7
SLICE_DIGITS = range(4, LONGEST_SLICE_DIGITS + 1)
"""Hexadecimal digits of a message's id: its time in steps of 50 days, 3 days, 5 hours and 17 minutes (RFC 9562)."""

STEP = "1 + abs(random() % (1 << max(tries - 100, 0)))"
"""In SQL, from a number that is taken to the one that is tried next: after a hundred tries farther and farther, as
imported messages may want the same number by the thousand."""

_LAST_NUMBER = 2**63 - 2**40
_FEW_PLACES = [f"':{place}" for place in range(1, 513)]


def owner_code(user_id: str) -> str:
    """What an owner's lexemes begin with: the last of a UUIDv7's random digits."""
    return user_id[-6:]


def conversation_lexeme(conversation_id: str) -> str:
    """Without the owner's code. Of twelve digits, so never a slice."""
    return f"~{conversation_id[-12:]}"


def slice_lexeme(digits: str) -> str:
    """Without the owner's code."""
    return f"~{digits}"


def vector_text(user_id: str, conversation_id: str, message_id: str, words: list[str]) -> str:
    """The tsvector of a message as Postgres reads it. Repeated lexemes are merged there."""
    quote, time = f" '{owner_code(user_id)}", message_id[:8]
    # by hand, as appending a message is the hottest path
    slices = f"{quote}~{time[:4]}'{quote}~{time[:5]}'{quote}~{time[:6]}'{quote}~{time[:7]}'"
    where = f"{quote}~{conversation_id[-12:]}'{slices}"
    if not words:
        return where
    places = _FEW_PLACES if len(words) <= len(_FEW_PLACES) else _all_places(len(words))
    return f"{where}{quote}{quote.join(map(add, words, places))}"


def plain_text(conversation_id: str, words: Iterable[str]) -> str:
    """The same for SQLite, where a trigger puts the owner's code behind each space, and FTS5 splits at spaces."""
    return f" ~{conversation_id[-12:]} {' '.join(words)}".rstrip()


def number_of(message_id: str) -> int:
    """The rowid of a message in FTS5, unless another one has it: the id's 63 first bits that count.

    Rowids are what FTS5 sorts by without sorting, so they follow the ids, and these the time. The last ones are left
    free, as nothing comes behind 2**63.
    """
    bits = int(message_id.replace("-", ""), 16)
    time_ms, counter, more = bits >> 80, bits >> 64 & 0xFFF, bits >> 59 & 0b111
    return min(time_ms << 15 | counter << 3 | more, _LAST_NUMBER)


def _all_places(count: int) -> list[str]:
    return [f"':{place}" for place in range(1, count + 1)]
