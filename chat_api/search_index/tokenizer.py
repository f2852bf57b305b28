"""Cuts text into words, the same way for both databases, for messages and for queries.

A word is a run of letters, digits and the marks on them, or one pictograph; everything else separates. Words are
compared without case, width and accents. Scripts that put no spaces between words give each pair of neighbouring
characters, and the last one alone, so that any part of a sentence is found as a phrase of pairs.
"""

import itertools
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from operator import add
from typing import NamedTuple

LONGEST_WORD = 40  # characters; the rest makes no difference
_MOST_FOLDED = 2000  # characters of a word, from which LONGEST_WORD are made
_MOST_READ = 1_000_000  # words of a text: a message of the greatest size has fewer

_SPACELESS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff"  # Myanmar
    "\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff"  # Hangul has spaces, but joins particles to its words
    "\u1780-\u17ff"  # Khmer
    "\u1950-\u19df\u1a20-\u1aad"  # Tai Le, New Tai Lue, Tai Tham
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u318f\u31a0-\u31bf\u31f0-\u31ff"  # kana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uf900-\ufaff\uff66-\uffdc"  # Han, Yi, half width
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_SPACELESS_CHARACTER = re.compile(f"[{_SPACELESS}]")
_INVISIBLE = "\u00ad\u034f\u061c\u200b-\u200f\u2060-\u2064\ufeff"  # inside a word they make no difference
# Emoji and other pictographs; a flag is a pair. What follows says which variant or skin colour, and makes no difference
_PICTOGRAPHS = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030\u303d"
    "\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff"
)
_FLAG = "[\U0001f1e6-\U0001f1ff]{2}"
_VARIANTS = "\ufe0e\ufe0f\U0001f3fb-\U0001f3ff"
_PICTOGRAPH = f"(?!\\w)(?:{_FLAG}|[{_PICTOGRAPHS}])[{_VARIANTS}]*"
_VARIANT = re.compile(f"[{_VARIANTS}]+")
_ASCII_SEPARATOR = re.compile("[^0-9A-Za-z]")
_PART_LENGTH = 65536  # of a long text that is cut into words at once
BREAK = "~d"  # between texts: no word, as of those none has a `~`
_ASCII_TO_WORDS = str.maketrans({chr(code): " " for code in range(128) if not chr(code).isalnum()})
# what has no decomposition, and is typed without its stroke all the same
_PLAIN = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ı": "i", "ŧ": "t", "æ": "ae", "œ": "oe"})


class Word(NamedTuple):
    """A word as it is compared, and where it stands: `text[start:end]`, in characters."""

    term: str
    start: int
    end: int


def words(text: str) -> list[str]:
    """The words of a text in their order, as they are compared."""
    if not text.isascii():
        return _kept(_terms(text))
    found = text.lower().translate(_ASCII_TO_WORDS).split()  # the quick way, for appending
    if found and len(max(found, key=len)) > LONGEST_WORD:
        return [word[:LONGEST_WORD] for word in found]
    return found


def words_of_texts(content: str, documents: Iterable[str]) -> list[str]:
    """The words of a message with its documents, a million at the most; the message's own come first.

    No phrase goes from one text to the next.
    """
    found = _quick_terms(content)
    for document in documents:
        found = itertools.chain(found, (BREAK,), _quick_terms(document))
    return _kept(found)


def _quick_terms(text: str) -> Iterator[str]:
    """The same as `_terms`, part by part where that is quicker."""
    if not text.isascii():
        yield from _terms(text)
        return
    offset = 0
    while offset < len(text):
        cut = _ASCII_SEPARATOR.search(text, offset + _PART_LENGTH)
        end = cut.start() if cut else len(text)
        yield from (
            word[:LONGEST_WORD] for word in text[offset:end].lower().translate(_ASCII_TO_WORDS).split()
        )
        offset = end


def _kept(terms: Iterator[str]) -> list[str]:
    known: dict[str, str] = {}  # each is kept once: a long text may repeat a few for a million times
    return [known.setdefault(term, term) for term in itertools.islice(terms, _MOST_READ)]


def _terms(text: str) -> Iterator[str]:
    """All words as they are compared."""
    for match in _word_pattern().finditer(text):
        run = match[0]
        if run.isascii():
            yield run.lower()[:LONGEST_WORD]
        elif is_spaceless(run):
            yield from _pair_terms(run)
        elif term := term_of(run):
            yield term


def words_with_spans(text: str) -> Iterator[Word]:
    """The words of a text with where they stand, one after the other."""
    count = 0
    for match in _word_pattern().finditer(text):
        run, start = match[0], match.start()
        more = _pairs(run, start) if is_spaceless(run) else (Word(term_of(run), start, match.end()),)
        for word in more:
            if not word.term:
                continue
            if count == _MOST_READ:
                return
            count += 1
            yield word


def is_spaceless(run: str) -> bool:
    """Whether a run of word characters belongs to a script without spaces."""
    return run[0] > "\u0dff" and _SPACELESS_CHARACTER.match(run) is not None


def term_of(word: str) -> str:
    """One word as it is compared."""
    if word.isascii():
        return word.lower()[:LONGEST_WORD]
    return fold(word[:_MOST_FOLDED])[:LONGEST_WORD] or _pictograph(word)


def _pictograph(word: str) -> str:
    """A pictograph without its variants; empty for what is none."""
    return _VARIANT.sub("", word) if _pictograph_pattern().fullmatch(word) else ""


@lru_cache(maxsize=4096)
def fold(word: str) -> str:
    """Without case, compatibility forms (NFKC, so also width) and accents; nothing but letters, digits and marks."""
    previous = ""
    while word != previous:  # a few letters change once more
        previous = word
        decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", word).casefold())
        word = unicodedata.normalize("NFC", "".join(filter(_counts, decomposed.translate(_PLAIN))))
    return word


def _counts(character: str) -> bool:
    return (character.isalnum() or unicodedata.category(character) in ("Mn", "Mc")) and not _is_accent(
        character
    )


def _is_accent(character: str) -> bool:
    """Marks without which a word is still the same word. In Thai or Devanagari marks are vowels, and stay."""
    return (
        "\u0300" <= character <= "\u036f"
        or "\u1ab0" <= character <= "\u1aff"
        or "\u1dc0" <= character <= "\u1dff"
        or "\u20d0" <= character <= "\u20ff"
        or "\ufe00" <= character <= "\ufe2f"
        or "\u0591" <= character <= "\u05c7"  # Hebrew points
        or "\u064b" <= character <= "\u065f"  # Arabic vowels
        or character in "\u0670\u0640"
    )


def _pairs(run: str, start: int) -> Iterator[Word]:
    """Each character of a run with its neighbour; the last one alone."""
    one: Word | None = None
    for following in _characters(run, start):
        if one is not None:
            yield Word(one.term + following.term, one.start, following.end)
        one = following
    if one is not None:
        yield one


def _pair_terms(run: str) -> Iterator[str]:
    """The same pairs without where they stand: at once where no character is changed or joined to another."""
    if all(fold(one) == one and not _may_join(one) for one in set(run)):
        yield from map(add, run, itertools.islice(run, 1, None))
        yield run[-1]
    else:
        yield from (pair.term for pair in _pairs(run, 0))


def _characters(run: str, start: int) -> Iterator[Word]:
    """The characters of a run, folded; what is written in parts, as syllables of Hangul or a kana and its voicing
    mark may be, is one.

    One after the other: a run may be as long as the text.
    """
    last: Word | None = None
    for position, written in enumerate(run, start):
        for part in fold(written):
            if last and _may_join(part) and len(composed := _composed(last.term + part)) == 1:
                last = Word(composed, last.start, position + 1)
                continue
            if last:
                yield last
            last = Word(part, position, position + 1)
    if last:
        yield last


def _may_join(character: str) -> bool:
    """Whether it may be a part of the character before it: a mark, or a vowel or final of Hangul."""
    return "\u1160" <= character <= "\u11ff" or unicodedata.category(character)[0] == "M"


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@lru_cache(maxsize=1)
def _word_pattern() -> re.Pattern[str]:
    """Runs of word characters, each of one kind of script; the first alternative is the quick one."""
    joined = _marks() + _INVISIBLE
    spaceless = f"(?:(?=\\w)[{_SPACELESS}][{joined}]*)+"
    return re.compile(
        f"[0-9A-Za-z]+(?![0-9A-Za-z]|[^\\x00-\\x7f])|{spaceless}|(?:(?![_{_SPACELESS}])\\w[{joined}]*)+"
        f"|{_PICTOGRAPH}"
    )


@lru_cache(maxsize=1)
def _pictograph_pattern() -> re.Pattern[str]:
    return re.compile(_PICTOGRAPH)


@lru_cache(maxsize=1)
def _marks() -> str:
    """All combining marks as ranges of a character class. Python's `\\w` leaves them out."""
    codes = [
        code
        for code in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))
        if code <= sys.maxunicode and unicodedata.category(chr(code))[0] == "M"
    ]
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
