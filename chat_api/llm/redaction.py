"""Text of providers for people: one line, without markup, control characters, keys and parts of keys."""

import re
from collections.abc import Iterable
from string import ascii_letters, digits

MAX_TEXT_LENGTH = 500
KEY_WINDOW = 6  # this many consecutive characters of a key are no coincidence
KEY_END = 4  # the least that providers show of the end of a key
REDACTED = "****"
Secrets = str | Iterable[str]

# patterns without backtracking: the text is untrusted, and no other thread runs during a match
_DOCUMENT = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)\b", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z!?][^<>]*>")
_LIKE_A_KEY = re.compile(
    r"(?i:bearer|basic)\s+\S+|\b(?:(?:sk|pk|rk|gsk|xai|hf|ghp)[-_.]|AIza|eyJ)[-_.A-Za-z0-9*]{6,}"
    r"|\bkey-[A-Za-z0-9]{16,}"
)
_LONG = re.compile(r"[A-Za-z0-9]{16,}")
_MASKED = re.compile(r"\*\*|\w(?:\.\.\.|…)\w")
_WORD = re.compile(r"\S+")
_PUNCTUATION = ".,;:!?'\"`()[]{}<>…*"


def is_document(text: str) -> bool:
    """Whether a text is a page of HTML or an XML document, which may say much about the inside of a server."""
    return _DOCUMENT.match(text) is not None


def cleaned(text: str, max_length: int = MAX_TEXT_LENGTH) -> str:
    """The text on one line, of printable characters, without tags; so many characters at most."""
    text = text[: 4 * max_length]
    if is_document(text):
        return ""
    text = _TAG.sub(" ", text)
    text = "".join([character if character.isprintable() else " " for character in text])
    return " ".join(text.split())[:max_length].rstrip()


def redacted(text: str, secrets: Secrets) -> str:
    """The text, cleaned, without these secrets, parts of them, and anything that looks like a key."""
    text = cleaned(text, 4 * MAX_TEXT_LENGTH)
    for secret in [secrets] if isinstance(secrets, str) else secrets:
        text = _without(text, secret)
    text = _LIKE_A_KEY.sub(REDACTED, _WORD.sub(_redact_masked, text))
    return _LONG.sub(_redact_unless_word, text)[:MAX_TEXT_LENGTH].rstrip()


def _without(text: str, secret: str) -> str:
    """The text without a secret and parts of it."""
    if len(secret) < KEY_WINDOW:  # "any", "none": part of many words
        return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", REDACTED, text) if secret else text
    windows = {secret[at : at + KEY_WINDOW] for at in range(len(secret) - KEY_WINDOW + 1)}

    def redact_parts(word: re.Match[str]) -> str:
        found = word[0]
        contains_part = any(
            found[at : at + KEY_WINDOW] in windows for at in range(len(found) - KEY_WINDOW + 1)
        )
        bare = found.strip(_PUNCTUATION)
        is_end = len(bare) >= KEY_END and secret.endswith(bare) and not bare.isalpha()
        return REDACTED if contains_part or is_end else found

    return _WORD.sub(redact_parts, text.replace(secret, REDACTED))


def _redact_masked(word: re.Match[str]) -> str:
    """Redact what a provider has masked itself: it shows the rest of the key."""
    return REDACTED if _MASKED.search(word[0]) else word[0]


def _redact_unless_word(found: re.Match[str]) -> str:
    """Redact a long sequence of letters and digits, but keep a long word or number."""
    characters = set(found[0])
    is_like_a_key = not characters.isdisjoint(digits) and not characters.isdisjoint(ascii_letters)
    return REDACTED if is_like_a_key else found[0]
