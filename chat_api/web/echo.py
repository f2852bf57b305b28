"""What an answer may repeat of the input: a short value, and names that look like names.

Whoever pastes an API key into the wrong field must not find it in answers, and so in logs and error trackers.
"""

import re
from typing import Any

MAX_CHARACTERS = 50
HIDDEN_NAME = "(name not repeated)"

MAX_WORD = 16  # letters: names consist of words, keys and passwords of long runs
MAX_ACRONYM = 8  # capitals
MAX_WORDS = 6
MAX_NAME_DIGITS = 4

_NAME = re.compile(rf"[A-Za-z0-9_]{{1,{MAX_CHARACTERS}}}")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def field_name(name: Any) -> str:
    """A name of the input as an answer may repeat it: at most 50 letters, digits and underscores that form words.

    Words are separated by underscores or begin with a capital. What has a longer word, more than a few digits or
    letters in odd cases may be a key that was pasted in the wrong place.
    """
    text = str(name) if isinstance(name, str | int) else ""
    return text if _NAME.fullmatch(text) and _has_words(text) else HIDDEN_NAME


def _has_words(text: str) -> bool:
    words = _WORD.findall(text)
    digits = sum(character.isdigit() for character in text)
    return (
        digits <= MAX_NAME_DIGITS
        and len(words) <= MAX_WORDS
        and all(len(word) <= (MAX_ACRONYM if word.isupper() else MAX_WORD) for word in words)
    )


def short_value(value: Any) -> str:
    """A value of the input as JSON, at most 50 characters of it; of an array or object only that it is one."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to print very large ones
        return "a large number"
    text = f'"{value[: MAX_CHARACTERS + 1]}"' if isinstance(value, str) else str(value)
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"
