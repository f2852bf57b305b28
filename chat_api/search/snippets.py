"""The piece of a message that shows why it was found, and where the words stand in it."""

from collections.abc import Iterator
from typing import Any

from ..search_index.tokenizer import Word, places
from .query import Phrase, Query

LENGTH = 200  # characters that a snippet aims at
_LEAD = 40  # of them in front of the first match
_LONGEST = 240

Span = tuple[int, int]


def snippet_of(content: str, query: Query) -> dict[str, Any]:
    """The snippet of a message: text, the matches in it as [start, end] in characters, and where it was cut."""
    words = places(content)
    matches = _merged(sorted(span for phrase in query.required for span in _occurrences(phrase, words)))
    start, end = _window(content, words, matches)
    shown = [[first - start, min(last, end) - start] for first, last in matches if start <= first < end]
    return {
        "text": content[start:end],
        "matches": shown,
        "cut_before": start > 0,
        "cut_after": end < len(content),
    }


def _occurrences(phrase: Phrase, words: list[Word]) -> Iterator[Span]:
    terms, last = phrase.terms[:-1], phrase.terms[-1]
    count = len(terms)
    for index in range(len(words) - count):
        term = words[index + count].term
        if term != last and not (phrase.is_prefix and term.startswith(last)):
            continue
        if all(words[index + place].term == terms[place] for place in range(count)):
            yield words[index].start, _end_of(phrase, words, index + count)


def _end_of(phrase: Phrase, words: list[Word], index: int) -> int:
    """Of a pair that begins with the character that was asked for, only that character."""
    end = words[index].end
    if phrase.is_character and index + 1 < len(words) and words[index].start < words[index + 1].start < end:
        return words[index + 1].start
    return end


def _merged(spans: list[Span]) -> list[Span]:
    """Spans that overlap as one."""
    merged: list[Span] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _window(content: str, words: list[Word], matches: list[Span]) -> Span:
    """The piece with the most matches in it, the first of those; from word to word."""
    if len(content) <= _LONGEST:
        return 0, len(content)
    best, most = matches[0] if matches else (0, 0), 0
    last = 0
    for index, (start, _) in enumerate(matches):
        last = max(last, index)
        while last + 1 < len(matches) and matches[last + 1][1] <= start + LENGTH - _LEAD:
            last += 1
        if last - index + 1 > most:
            best, most = matches[index], last - index + 1
    start = max(0, min(best[0] - _LEAD, len(content) - LENGTH))
    end = min(len(content), max(start + LENGTH, min(best[1], start + _LONGEST)))
    return _at_a_word(content, start, best[0]), _at_the_end_of_a_word(content, end, best[1])


def _at_a_word(content: str, start: int, match: int) -> int:
    """Move the beginning behind a space in front of the match, if there is one."""
    if start == 0:
        return 0
    space = content.find(" ", start - 1, match)
    return start if space < 0 else space + 1


def _at_the_end_of_a_word(content: str, end: int, match_end: int) -> int:
    if end == len(content):
        return end
    space = content.rfind(" ", match_end, end + 1)
    return end if space < 0 else space
