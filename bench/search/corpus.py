"""The messages of the two users: words as frequent as Zipf's law has it, in messages of 20 to 80, over three years.

Some words are planted, as the law alone makes no hard case.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, product

YEARS_MS = 3 * 365 * 86_400_000
END_MS = 1_790_000_000_000  # September 2026
PER_CONVERSATION = 500
VOCABULARY = 50_000
_STREAM = (
    4_000_000  # words that messages are cut from: sampling each one's own would take longer than loading
)
_SYLLABLES = [first + second for first, second in product("bdfgklmnprstvz", "aeiou")]

BYGONE = "bygone"  # in every second message of the older half, in none of the newer
LEFT, RIGHT = "leftmost", "rightmost"  # each in every third message, never in the same
BEFORE, AFTER = "forenoon", "aftermath"  # in every fifth message both, always with another word between them


@dataclass(frozen=True)
class Entry:
    """A message: its user (0 or 1), its number, its time and its text."""

    user: int
    number: int
    time_ms: int
    content: str


def word_of(rank: int) -> str:
    """The word of a rank in frequency, from 0."""
    count = len(_SYLLABLES)
    return (
        _SYLLABLES[rank % count]
        + _SYLLABLES[rank // count % count]
        + _SYLLABLES[rank // count // count] * (rank >= count)
    )


def time_of(number: int, size: int) -> int:
    """When the message of a number was written: `size` of them are spread evenly over the years."""
    return END_MS - YEARS_MS + number * YEARS_MS // size


def entries(size: int) -> Iterator[Entry]:
    """`size` messages of each of two users, alternating, in the order of their time; the same ones each time."""
    chance = random.Random(20261123)
    words = [word_of(rank) for rank in range(VOCABULARY)]
    weights = list(accumulate(1 / (rank + 2.7) for rank in range(VOCABULARY)))
    stream = chance.choices(words, cum_weights=weights, k=min(_STREAM, size * 50))
    for number in range(size):
        time_ms = time_of(number, size)
        for user in range(2):
            length = chance.randint(20, 80)
            start = chance.randrange(len(stream) - length)
            content = " ".join([*stream[start : start + length], *_planted(number, size)])
            yield Entry(user, number, time_ms, content.capitalize() + ".")


def _planted(number: int, size: int) -> list[str]:
    planted = [(LEFT, RIGHT, "middle")[number % 3]]
    if number < size // 2 and number % 2:
        planted.append(BYGONE)
    if number % 5 == 0:
        planted += [BEFORE, "then", AFTER]
    return planted
