"""The excerpt of a message that shows why it was found, and the spans of the matches in it."""

from typing import Any, NamedTuple

from ..search_index.tokenizer import words_with_spans
from .matching import Matcher, Span

LENGTH = 200  # characters that a snippet aims at
_LEAD = 40  # of them before the first match
_LONGEST = 240
_WORDS_AFTER_FIRST = 2000  # the excerpt is the best one of those so near to the first match


class Excerpt(NamedTuple):
    """A snippet, and how many of the query's phrases were found around it."""

    snippet: dict[str, Any]
    phrases: int


def excerpt_of(content: str, matcher: Matcher) -> Excerpt:
    """The snippet of a text: text, the matches in it as [start, end] in characters, and where it was cut."""
    found = list(matcher.occurrences(words_with_spans(content), words_after_first=_WORDS_AFTER_FIRST))
    snippet = _excerpt(content, _merged(sorted(span for _, span in found)))
    return Excerpt(snippet, len({phrase for phrase, _ in found}))


def beginning_of(content: str) -> dict[str, Any]:
    """The snippet of a message in which nobody looked for matches."""
    return _excerpt(content, [])


def _excerpt(content: str, matches: list[Span]) -> dict[str, Any]:
    start, end = _window(content, matches)
    return {
        "text": content[start:end],
        "matches": [
            [first - start, min(last, end) - start] for first, last in matches if start <= first < end
        ],
        "cut_before": start > 0,
        "cut_after": end < len(content),
    }


def _merged(spans: list[Span]) -> list[Span]:
    """Spans that overlap as one."""
    merged: list[Span] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _window(content: str, matches: list[Span]) -> Span:
    """The excerpt with the most matches in it, the first of those; from word to word."""
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
    """Move the beginning to the first word before the match, if there is a space."""
    if start == 0:
        return 0
    space = content.find(" ", start - 1, match)
    return start if space < 0 else space + 1


def _at_the_end_of_a_word(content: str, end: int, match_end: int) -> int:
    if end == len(content):
        return end
    space = content.rfind(" ", match_end, end + 1)
    return end if space < 0 else space
