"""How a reply is streamed and what it says, both named by the model, so that all processes know them."""

from dataclasses import dataclass
from typing import Self

WORDS = (
    "the",
    "quick",
    "brün",
    "fox",
    'said "no"',
    "back\\slash",
    "日本",
    "line\n",
    "🙂",
    "\ttab",
    "over",
    "a dog",
)

TEXTS = tuple(f" {WORDS[number % len(WORDS)]}{number}" for number in range(4099))
"""The texts of the chunks of all replies. Each is different: a lost, doubled or moved chunk shows."""

STRIDE = 1009
"""How far apart two replies begin in `TEXTS`, whose number is a prime: so 4,099 replies differ from each other."""


@dataclass(frozen=True)
class Pace:
    """A reply: milliseconds to its first chunk, from one chunk to the next (0: all at once), chunks, which text."""

    ttft_ms: int
    every_ms: int
    chunks: int
    text: int = 0

    @property
    def model(self) -> str:
        """The name of the model, such as `ttft=10;every=5;chunks=200;text=3`."""
        return f"ttft={self.ttft_ms};every={self.every_ms};chunks={self.chunks};text={self.text}"

    @classmethod
    def of_model(cls, model: str) -> Self:
        """Parse a model's name; ValueError if it is no such name."""
        parts = dict(part.split("=", 1) for part in model.split(";"))
        if parts.keys() != {"ttft", "every", "chunks", "text"}:
            raise ValueError(f"not the name of a pace: {model}")
        return cls(int(parts["ttft"]), int(parts["every"]), int(parts["chunks"]), int(parts["text"]))

    def text_at(self, index: int) -> int:
        """Which of the `TEXTS` the chunk at this index holds."""
        return (self.text * STRIDE + index) % len(TEXTS)

    @property
    def reply(self) -> str:
        """The whole text."""
        return "".join(TEXTS[self.text_at(index)] for index in range(self.chunks))
