"""Where the words of a query occur in a text: in one pass, whatever the query asks for."""

from collections.abc import Iterable, Iterator
from itertools import islice

from ..search_index.tokenizer import Word
from .query import Phrase, Query

Span = tuple[int, int]


class Matcher:
    """The required phrases of a query, by the word that each begins with.

    A word of the text costs one lookup, and one more for each length that a prefix has, instead of a comparison with
    each word of the query.
    """

    def __init__(self, query: Query) -> None:
        self._by_word: dict[str, list[Phrase]] = {}
        self._by_prefix: dict[str, list[Phrase]] = {}
        for phrase in query.required:
            is_prefix = phrase.is_prefix and len(phrase.terms) == 1
            (self._by_prefix if is_prefix else self._by_word).setdefault(phrase.terms[0], []).append(phrase)
        self._lengths = sorted({len(prefix) for prefix in self._by_prefix})
        self._count = len(query.required)
        self._longest = max(len(phrase.terms) for phrase in query.required)

    @property
    def count(self) -> int:
        """How many phrases there are."""
        return self._count

    def occurrences(self, words: Iterable[Word], *, words_after_first: int) -> Iterator[tuple[Phrase, Span]]:
        """All occurrences in the order of their beginnings, each with its span in characters.

        Ends `words_after_first` words after the first occurrence: what is far from it is not looked at.
        """
        remaining = iter(words)
        ahead = list(islice(remaining, self._longest + 1))  # the word itself, and all that may belong to it
        left: int | None = None
        index = 0
        while index < len(ahead):
            if left is not None:
                left -= 1
                if left < 0:
                    return
            for phrase in self._phrases_at(ahead[index].term):
                if (span := _occurrence(phrase, ahead, index)) is not None:
                    left = words_after_first if left is None else left
                    yield phrase, span
            index += 1
            if index + self._longest >= len(ahead):
                ahead = ahead[index:] + list(islice(remaining, 512))
                index = 0

    def _phrases_at(self, term: str) -> Iterator[Phrase]:
        yield from self._by_word.get(term, ())
        for length in self._lengths:
            yield from self._by_prefix.get(term[:length], ())


def _occurrence(phrase: Phrase, words: list[Word], index: int) -> Span | None:
    """The span of a phrase whose first word is at this index, if the others follow."""
    terms, last = phrase.terms, index + len(phrase.terms) - 1
    if last >= len(words):
        return None
    if any(words[index + position].term != terms[position] for position in range(len(terms) - 1)):
        return None
    final = words[last].term
    if final != terms[-1] and not (phrase.is_prefix and final.startswith(terms[-1])):
        return None
    return words[index].start, _end_of(phrase, words, last)


def _end_of(phrase: Phrase, words: list[Word], index: int) -> int:
    """Where a match ends; for a pair that begins with a single character of the query, after that character."""
    end = words[index].end
    if phrase.is_character and index + 1 < len(words) and words[index].start < words[index + 1].start < end:
        return words[index + 1].start
    return end
