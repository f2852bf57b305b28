"""Providers' error responses as our errors, with messages fit for users: one line, without keys."""

import re
import time
from email.message import Message
from email.utils import parsedate_to_datetime
from string import ascii_letters, digits

from ..egress.errors import EgressError, Failed
from .errors import KeyRefused, RateLimited
from .untrusted_json import parse_json

MAX_MESSAGE_LENGTH = 500
MAX_WAIT_S = 86_400
KEY_WINDOW = 6  # this many consecutive characters of a key are no coincidence

# a fixed text, because providers repeat parts of the key in these errors
KEY_REFUSED = "The provider refused the key. Check the key and its permissions."
OVERLOADED = "The provider is overloaded. Try again later."
RATE_LIMITED = "The provider's rate limit for this key is reached. Try again later."

# patterns without backtracking: the text is untrusted, and no other thread runs during a match
_LIKE_A_KEY = re.compile(
    r"(?i:bearer|basic)\s+\S+|\b(?:sk|pk|rk|gsk|xai|hf|ghp|key|AIza|eyJ)[-_.A-Za-z0-9*]{8,}"
)
_LONG = re.compile(r"[-_A-Za-z0-9]{24,}")
_MASKED = re.compile(r"\*\*|\w(?:\.\.\.|…)\w")
_WORD = re.compile(r"\S+")


def error_of_response(status: int, headers: Message, body: bytes, key: str) -> EgressError:
    """The error for a response with a status other than 200."""
    if status in (401, 403):
        return KeyRefused(KEY_REFUSED)
    if status == 429:
        return RateLimited(RATE_LIMITED, retry_after_s=retry_after_s(headers))
    if 300 <= status < 400:
        return Failed(f"The provider answered {status}, a redirect; redirects are not followed.")
    if status == 529:
        return Failed(OVERLOADED)
    message = _redacted(message_of(parse_json(body)), key)
    return Failed(
        f"The provider answered {status}: {message}" if message else f"The provider answered {status}."
    )


def error_of_report(error: object, key: str) -> EgressError:
    """The error for an error object inside a response whose status was 200."""
    fields = error if isinstance(error, dict) else {}
    values = (fields.get(name) for name in ("code", "type", "status"))
    words = {str(value) for value in values if isinstance(value, (str, int))}
    if words & {"401", "403", "authentication_error", "permission_error", "invalid_api_key"}:
        return KeyRefused(KEY_REFUSED)
    if words & {"429", "rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"}:
        return RateLimited(RATE_LIMITED, retry_after_s=None)
    if words & {"529", "overloaded_error"}:
        return Failed(OVERLOADED)
    message = _redacted(message_of({"error": error}), key)
    return Failed(f"The provider reported: {message}" if message else "The provider reported an error.")


def message_of(answer: object) -> str:
    """The message in an error response: {"error": {"message": …}}, {"error": "…"}, {"message": …}, or a list of one."""
    if isinstance(answer, list):
        answer = answer[0] if answer else None
    if not isinstance(answer, dict):
        return ""
    error = answer.get("error", answer)
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def retry_after_s(headers: Message) -> int | None:
    """The seconds in Retry-After, which may be a number or a date; at most a day."""
    text = str(headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdecimal():
        return min(int(text[:9]), MAX_WAIT_S)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return max(0, min(round(seconds), MAX_WAIT_S))


def _redacted(text: str, key: str) -> str:
    """The text on one line, without the key, parts of the key, and anything that looks like a key."""
    text = "".join(
        character if character.isprintable() else " " for character in text[: 4 * MAX_MESSAGE_LENGTH]
    )
    if key:
        text = text.replace(key, "****")
    windows = {key[at : at + KEY_WINDOW] for at in range(len(key) - KEY_WINDOW + 1)}

    def redact_parts(word: re.Match[str]) -> str:
        found = word[0]
        contains_part = any(
            found[at : at + KEY_WINDOW] in windows for at in range(len(found) - KEY_WINDOW + 1)
        )
        return "****" if contains_part or _MASKED.search(found) else found

    text = _LIKE_A_KEY.sub("****", _WORD.sub(redact_parts, text))
    return " ".join(_LONG.sub(_redact_unless_word, text).split())[:MAX_MESSAGE_LENGTH]


def _redact_unless_word(found: re.Match[str]) -> str:
    """Redact a long sequence of letters and digits, but keep a long word."""
    characters = set(found[0])
    is_like_a_key = not characters.isdisjoint(digits) and not characters.isdisjoint(ascii_letters)
    return "****" if is_like_a_key else found[0]
