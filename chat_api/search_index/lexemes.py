"""How the words of a message stand in the index: what Postgres' `tsvector` and SQLite's FTS5 are given.

Every lexeme begins with six characters of its owner's id. So each user has words of their own in the index: a word
costs what the one user's messages make it cost, however many others use it. Two users with the same six
characters share that cost, never a result, for every statement names the user too.

Lexemes with a `~`, which no word has, say where a message is: its conversation, and for Postgres, whose GIN index
knows no order, the slices of ids that its id lies in. One message of some hundred is also marked as a sample.

A `tsvector` has room for so many words and positions (PostgreSQL documentation, section 8.11.1), so on Postgres a long
message has several. The first one is marked as that of a long message.
"""

from collections.abc import Iterable, Sequence
from operator import add
from random import random as _random

SLICE_DIGITS = range(3, 8)
"""Hexadecimal digits that an id has in common with its slice. Of a version 7, whose first digits are its time, slices
are as long as 2 years, 50 days, 3 days, 5 hours and 17 minutes (RFC 9562, section 5.7)."""

SAMPLE = "~"
"""The lexeme of the samples, without the owner's code."""
SAMPLED = 512
"""One message of so many is a sample. With fewer samples spans hold more than a page needs; with more it takes longer
to find those with common words, and all of them are looked at for a prefix."""

LONG = "~long"
"""The lexeme of messages with several vectors, without the owner's code."""
LONGEST_PHRASE = 64
"""Words of a query. Vectors have all but one of them in common with the one before, so each phrase is whole in one."""
# Of one vector: positions end at 16,383, of one word 256 are kept, and 1 MiB is for all words and positions
_MOST_WORDS = 16_000
_MOST_TIMES = 255
_MOST_BYTES = 400_000  # of words, each of which takes some bytes more

_FEW_POSITIONS = [f"':{position}" for position in range(1, 513)]
_GREATEST_NUMBER = 2**63 - 2**33


def owner_code(user_id: str) -> str:
    """What an owner's lexemes begin with: the last of a UUIDv7's random digits."""
    return user_id[-6:]


def conversation_lexeme(conversation_id: str) -> str:
    """Without the owner's code. Of 32 digits, so never a slice."""
    return f"~{conversation_id.replace('-', '')}"


def slice_lexeme(digits: str) -> str:
    """Without the owner's code."""
    return f"~{digits}"


def is_sample() -> bool:
    """Whether the message whose words are being written is a sample. At random: whoever imports messages chooses
    their ids, and must not be able to have all of them samples, or none. Nobody sees enough of it to foretell more."""
    return _random() < 1 / SAMPLED  # noqa: S311


def vector_text(
    user_id: str,
    conversation_id: str,
    message_id: str,
    words: Sequence[str],
    *,
    as_sample: bool = False,
    is_long: bool = False,
) -> str:
    """The first tsvector of a message as Postgres reads it. Repeated lexemes are merged there."""
    quote, first = f" '{owner_code(user_id)}", message_id[:7]
    # by hand, as appending a message is the hottest path
    slices = (
        f"{quote}~{first[:3]}'{quote}~{first[:4]}'{quote}~{first[:5]}'{quote}~{first[:6]}'{quote}~{first}'"
    )
    where = f"{quote}~{conversation_id.replace('-', '')}'{slices}"
    if as_sample:
        where += f"{quote}{SAMPLE}'"
    if is_long:
        where += f"{quote}{LONG}'"
    return f"{where}{_with_positions(quote, words)}"


def later_vector_text(user_id: str, conversation_id: str, words: Sequence[str]) -> str:
    """Another tsvector of a long message, with what `parts_of` says it has."""
    quote = f" '{owner_code(user_id)}"
    return f"{quote}{conversation_lexeme(conversation_id)}'{_with_positions(quote, words)}"


def _with_positions(quote: str, words: Sequence[str]) -> str:
    if not words:
        return ""
    few = _FEW_POSITIONS
    positions = few if len(words) <= len(few) else [f"':{position}" for position in range(1, len(words) + 1)]
    return f"{quote}{quote.join(map(add, words, positions))}"


def parts_of(words: list[str]) -> list[list[str]]:
    """The words of each vector of a message: of all but long ones there is one."""
    if len(words) <= _MOST_TIMES:
        return [words]
    parts: list[list[str]] = []
    begin, end = 0, _end_of_part(words, 0)
    while end < len(words):
        parts.append(words[begin:end])
        begin = end - (LONGEST_PHRASE - 1)
        end = _end_of_part(words, begin)
    parts.append(words[begin:])
    return parts


def _end_of_part(words: list[str], begin: int) -> int:
    """Where a part ends, for which a vector has just enough room."""
    times: dict[str, int] = {}
    left_bytes = _MOST_BYTES
    end = min(begin + _MOST_WORDS, len(words))
    for index in range(begin, end):
        word = words[index]
        count = times[word] = times.get(word, 0) + 1
        if count == 1:
            left_bytes -= len(word) if word.isascii() else len(word.encode())
        if count > _MOST_TIMES or left_bytes < 0:
            return index
    return end


def plain_text(conversation_id: str, words: Iterable[str]) -> str:
    """The same for SQLite, where a trigger puts the owner's code after each space, and FTS5 splits at spaces."""
    return f" {conversation_lexeme(conversation_id)} {' '.join(words)}".rstrip()


def owned_text(user_id: str, terms: str) -> str:
    """What FTS5 indexes for that: the trigger's `replace` (migration 0006)."""
    return terms.replace(" ", f" {owner_code(user_id)}")


def number_of(message_id: str) -> int:
    """The rowid of a message in FTS5, unless another one has it: the id's first 63 bits, less version and variant.

    Rowids are what FTS5 sorts by without sorting, so they follow the ids, and these the time. Above the greatest
    there is room for those that are tried where it is taken (`writer.INSERT_NUMBERED`).
    """
    bits = int(message_id.replace("-", ""), 16)
    time_ms, counter, more = bits >> 80, bits >> 64 & 0xFFF, bits >> 59 & 0b111
    return min(time_ms << 15 | counter << 3 | more, _GREATEST_NUMBER)
