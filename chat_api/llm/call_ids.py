"""Ids of tool calls that a server takes: which ones it does, and what is sent for others."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from string import ascii_letters, digits

_ALPHABET = digits + ascii_letters
_LENGTH = 24
# rule -> the ids that are sent as they are, and the prefix and the length of all others
_RULES = {
    "any": (re.compile(r"[\x21-\x7e]{1,40}"), "call_", _LENGTH),  # OpenAI's limit
    "mistral": (re.compile("[A-Za-z0-9]{9}"), "", 9),
    "anthropic": (re.compile("[A-Za-z0-9_-]{1,64}"), "toolu_", _LENGTH),
}


def fit_call_ids(ids: Iterable[str], rule: str) -> list[str]:
    """What is sent for the ids of a history's calls, in their order: no two alike, and the same in each request.

    An id that fits stays as it is where it comes first; the others follow from what they stand for.
    """
    ids = list(ids)
    pattern, prefix, length = _RULES[rule]
    used = {id for id in ids if pattern.fullmatch(id)}
    kept: set[str] = set()
    seen: Counter[str] = Counter()
    fitted = []
    for id in ids:
        if id in used and id not in kept and not seen[id]:
            kept.add(id)
            fitted.append(id)
        else:
            made = _made(id, seen[id], used, prefix, length)
            used.add(made)
            fitted.append(made)
        seen[id] += 1
    return fitted


def _made(id: str, occurrence: int, used: set[str], prefix: str, length: int) -> str:
    """An id that is not used yet."""
    attempt = 0
    while True:
        made = prefix + _digest(f"{attempt} {occurrence} {id}", length)
        if made not in used:
            return made
        attempt += 1


def _digest(text: str, length: int) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode(errors="replace")).digest())
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits += _ALPHABET[digit]
    return digits
