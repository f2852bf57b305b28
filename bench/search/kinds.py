"""Kinds of query that differ in cost, each with several words so that no single word decides."""

import random
from dataclasses import dataclass
from urllib.parse import urlencode

from bench.search.corpus import AFTER, BEFORE, BYGONE, LEFT, RIGHT, word_of

VARIANTS = 20
PAGE = 20
P95_MS = 50.0
HARD_P95_MS = 300.0


@dataclass(frozen=True)
class Kind:
    """Queries of one kind. Those of `is_hard` were made to be as bad as a query can be, and may take longer."""

    name: str
    queries: tuple[dict[str, str], ...]
    is_hard: bool = False

    @property
    def limit_ms(self) -> float:
        """The most that 95 of 100 may take, in milliseconds."""
        return HARD_P95_MS if self.is_hard else P95_MS

    @property
    def paths(self) -> list[str]:
        """The requests to the service."""
        return [f"/chat/search?{urlencode({'limit': str(PAGE), **query})}" for query in self.queries]


def kinds(halfway_id: str, conversation_id: str) -> list[Kind]:
    """All kinds; `halfway_id` is a message in the middle of the user's, `conversation_id` one of the conversations."""
    chance = random.Random(7)

    def near(rank: int) -> str:
        """A word about as frequent as that of a rank."""
        return word_of(chance.randint(rank, rank + max(VARIANTS, rank // 10)))

    def made(name: str, template: str, *ranks: int, is_hard: bool = False, **parameters: str) -> Kind:
        texts = [template.format(*(near(rank) for rank in ranks)) for _ in range(VARIANTS if ranks else 1)]
        return Kind(name, tuple({"q": text, **parameters} for text in texts), is_hard)

    most_common = Kind("the most common words", tuple({"q": word_of(rank)} for rank in range(5)))
    first_two = f"{word_of(0)} {word_of(1)}"
    return [
        most_common,
        made("common words", "{}", 20),
        made("middling words", "{}", 400),
        made("less frequent words", "{}", 4000),
        made("rare words", "{}", 40_000),
        made("no match", "{}qqq", 10),
        made("two common words", "{} {}", 0, 20),
        made("a common and a rare word", "{} {}", 0, 40_000),
        made("three words", "{} {} {}", 0, 100, 1000),
        Kind("a phrase of common words", ({"q": f'"{first_two}"'},)),
        made("a phrase of middling words", '"{} {}"', 100, 300),
        made("an exclusion", "{} -{}", 20, 0),
        made("a rare word without a common one", "{} -{}", 20_000, 0),
        made("prefix of one character", "{:.1}*", 5),
        made("prefix of three characters", "{:.3}*", 100),
        made("prefix of a rare word", "{:.6}*", 40_000),
        made("a page from the middle, common", "{}", 20, after=halfway_id),
        made("a page from the middle, rare", "{}", 10_000, after=halfway_id),
        made("in one conversation, common", "{}", 0, conversation_id=conversation_id),
        made("in one conversation, rare", "{}", 2000, conversation_id=conversation_id),
        made("by relevance, common", "{}", 20, sort="relevance"),
        made("by relevance, middling", "{}", 1000, sort="relevance"),
        made("common long ago, absent since", BYGONE),
        made("two common words, never together", f"{LEFT} {RIGHT}", is_hard=True),
        made("two common words, never adjacent", f'"{BEFORE} {AFTER}"', is_hard=True),
        made("all but what is everywhere", f"{LEFT} -{LEFT}", is_hard=True),
        made("prefix common long ago", BYGONE[:4] + "*", is_hard=True),
    ]
