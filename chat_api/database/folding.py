"""Text as it is compared with what a user types: without case, width and accents, in either database.

SQLite calls the function, Postgres has the same in SQL. Words of messages are cut and folded by
`search_index.tokenizer`, which goes by the same rules.
"""

import re
import unicodedata
from typing import Any

import sqlalchemy as sa

# marks without which a letter is still the same letter; in Thai or Devanagari marks are vowels, and stay
ACCENTS = (
    "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe2f"
    "\u0591-\u05c7\u064b-\u065f\u0670\u0640\u00ad\u200b-\u200f\u2060-\u2064\ufeff"
)
_ACCENT = re.compile(f"[{ACCENTS}]+")
# what has no decomposition
_LETTERS = {"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ı": "i", "ŧ": "t"}
_LIGATURES = {"æ": "ae", "œ": "oe", "ß": "ss", "ς": "σ"}
_TABLE = str.maketrans(_LETTERS | _LIGATURES)


def folded(text: str) -> str:
    """The text as it is compared."""
    bare = _ACCENT.sub("", unicodedata.normalize("NFKD", text)).lower()
    return unicodedata.normalize("NFC", bare.translate(_TABLE))


def folded_on_postgres(text: Any) -> sa.ColumnElement[str]:
    """The same in SQL. The database is in UTF-8, which `normalize` needs."""
    decomposed = sa.func.normalize(text, sa.literal_column("NFKD"))
    bare = sa.func.lower(sa.func.regexp_replace(decomposed, f"[{ACCENTS}]+", "", "g"))
    bare = sa.func.translate(bare, "".join(_LETTERS), "".join(_LETTERS.values()))
    for letter, letters in _LIGATURES.items():
        bare = sa.func.replace(bare, letter, letters)
    return sa.func.normalize(bare, sa.literal_column("NFC"))
