"""The query of a search: words, "phrases", -exclusions and prefix*; any text is a query, or is refused with a reason.

A word of several parts, such as `foo-bar`, is the phrase of its parts; so is a word in a script without spaces, of
pairs of characters. A phrase's words stand next to each other.
"""

import re
from dataclasses import dataclass

from ..errors import InvalidInput
from ..search_index.lexemes import LONGEST_PHRASE, owner_code
from ..search_index.tokenizer import is_spaceless, words_with_spans

MOST_TERMS = LONGEST_PHRASE
MOST_PREFIXES = 8  # each is merged from all the words that begin so
_PART = re.compile(
    r'(?P<exclusion>-*)(?:["“”„‟](?P<quoted>[^"“”„‟]*)(?:["“”„‟]|\Z)|(?P<plain>[^\s"“”„‟]+))(?P<prefix>\*?)'
)


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that stand next to each other; with `is_prefix` the last one is a prefix.

    `is_character` is the prefix that a single character of a script without spaces is.
    """

    terms: tuple[str, ...]
    is_prefix: bool = False
    is_character: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """All of `required` are in a message, and none of `excluded`."""

    required: tuple[Phrase, ...]
    excluded: tuple[Phrase, ...]

    @property
    def has_prefix(self) -> bool:
        """Whether it matches more words than it names."""
        return any(phrase.is_prefix for phrase in (*self.required, *self.excluded))

    def as_tsquery(self, user_id: str, *, also: tuple[str, ...] = ()) -> str:
        """The query as Postgres reads it, of one user's lexemes; `also` are lexemes that are required, too."""
        code = owner_code(user_id)
        required = [_tsquery_of(phrase, code, " <-> ") for phrase in self.required]
        excluded = [f"!{_tsquery_of(phrase, code, ' <-> ')}" for phrase in self.excluded]
        return " & ".join([*(f"'{code}{lexeme}'" for lexeme in also), *required, *excluded])

    def as_tsqueries(self, user_id: str, *, also: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
        """What is required and what is excluded, each by itself, for messages whose words are in several rows."""
        required, excluded = (
            [Query((phrase,), ()).as_tsquery(user_id, also=also) for phrase in phrases]
            for phrases in (self.required, self.excluded)
        )
        return required, excluded

    def as_tsquery_of_words(
        self, user_id: str, *, also: tuple[str, ...] = (), has_prefixes: bool = True
    ) -> str:
        """The part of the query that an index answers without looking at rows: a phrase's words may stand anywhere,
        and excluded phrases don't count.
        """
        required = [
            Phrase((term,), is_prefix=phrase.is_prefix and position == len(phrase.terms) - 1)
            for phrase in self.required
            for position, term in enumerate(phrase.terms)
        ]
        excluded = [phrase for phrase in self.excluded if len(phrase.terms) == 1]
        kept = [[one for one in some if has_prefixes or not one.is_prefix] for some in (required, excluded)]
        return Query(tuple(kept[0]), tuple(kept[1])).as_tsquery(user_id, also=also)

    def as_fts5(self, user_id: str, *, also: tuple[str, ...] = ()) -> str:
        """The same as SQLite's FTS5 reads it. Nothing of the user's text but words gets here, and those in quotes."""
        code = owner_code(user_id)
        required = [
            *(f'"{code}{lexeme}"' for lexeme in also),
            *(_fts5_of(one, code) for one in self.required),
        ]
        excluded = "".join(f" NOT {_fts5_of(phrase, code)}" for phrase in self.excluded)
        return f"({' AND '.join(required)}){excluded}"


def parse(text: str) -> Query:
    """Parse a query as a user types it. Raises InvalidInput for one without a word, or with too many."""
    required: dict[Phrase, None] = {}
    excluded: dict[Phrase, None] = {}
    for part in _PART.finditer(text):
        plain = part["plain"] or ""
        is_prefix = bool(part["prefix"]) or plain.endswith("*")
        phrase = _phrase_of(part["quoted"] if part["quoted"] is not None else plain, is_prefix)
        if phrase is not None:
            (excluded if part["exclusion"] else required)[phrase] = None
    if not required:
        raise InvalidInput(
            {
                "q": [
                    "The query has only exclusions: add a word that must occur."
                    if excluded
                    else "No word to search for."
                ]
            }
        )
    if sum(len(phrase.terms) for phrase in (*required, *excluded)) > MOST_TERMS:
        raise InvalidInput({"q": [f"More than {MOST_TERMS} words."]})
    if sum(phrase.is_prefix for phrase in (*required, *excluded)) > MOST_PREFIXES:
        raise InvalidInput({"q": [f"More than {MOST_PREFIXES} prefixes (words with * at the end)."]})
    return Query(tuple(required), tuple(excluded))


def _phrase_of(text: str, is_prefix: bool) -> Phrase | None:
    """The phrase of a text's words; None where it has none."""
    found = list(words_with_spans(text))
    if not found:
        return None
    terms = [word.term for word in found]
    last = found[-1]
    if not is_spaceless(text[last.start : last.end]):
        return Phrase(tuple(terms), is_prefix)
    # the last character alone is the end of a run; what is searched for may go on
    if len(found) > 1 and found[-2].end == last.end:
        return Phrase(tuple(terms[:-1]))
    return Phrase(tuple(terms), is_prefix=True, is_character=True)


def _tsquery_of(phrase: Phrase, code: str, operator: str) -> str:
    lexemes = operator.join(f"'{code}{term}'" for term in phrase.terms)
    return f"({lexemes}{':*' if phrase.is_prefix else ''})"


def _fts5_of(phrase: Phrase, code: str) -> str:
    return f'"{" ".join(code + term for term in phrase.terms)}"{" *" if phrase.is_prefix else ""}'
