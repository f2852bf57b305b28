"""What a provider's error answer means, in words that may be shown: no key, no markup, one line."""

import re
import time
from email.message import Message
from email.utils import parsedate_to_datetime
from string import ascii_letters, digits

from ..egress.errors import EgressError, Failed
from .errors import KeyRefused, RateLimited
from .untrusted_json import loads

MAX_MESSAGE_LENGTH = 500
MAX_WAIT_S = 86_400
KEY_WINDOW = 6  # so many characters of a key in a row are no coincidence

# a fixed text: it is here that providers repeat parts of the key
KEY_REFUSED = "The provider does not take the key. Check it, and what it may be used for."
OVERLOADED = "The provider is overloaded. Try again later."
RATE_LIMITED = "The provider takes no more requests with this key for now."

# patterns without backtracking: the text is the provider's, and nobody else runs while one is looked for
_LIKE_A_KEY = re.compile(
    r"(?i:bearer|basic)\s+\S+|\b(?:sk|pk|rk|gsk|xai|hf|ghp|key|AIza|eyJ)[-_.A-Za-z0-9*]{8,}"
)
_LONG = re.compile(r"[-_A-Za-z0-9]{24,}")
_MASKED = re.compile(r"\*\*|\w(?:\.\.\.|…)\w")
_WORD = re.compile(r"\S+")


def refusal(status: int, headers: Message, body: bytes, key: str) -> EgressError:
    """The error that a status other than 2xx means."""
    if status in (401, 403):
        return KeyRefused(KEY_REFUSED)
    if status == 429:
        return RateLimited(RATE_LIMITED, retry_after_s=retry_after_s(headers))
    if 300 <= status < 400:
        return Failed(f"The provider answered {status}, a redirect; redirects are not followed.")
    if status == 529:
        return Failed(OVERLOADED)
    message = _shown(message_of(loads(body)), key)
    return Failed(
        f"The provider answered {status}: {message}" if message else f"The provider answered {status}."
    )


def reported(error: object, key: str) -> EgressError:
    """The error that an error object in an answer means, whose status was 200."""
    fields = error if isinstance(error, dict) else {}
    values = (fields.get(name) for name in ("code", "type", "status"))
    words = {str(value) for value in values if isinstance(value, (str, int))}
    if words & {"401", "403", "authentication_error", "permission_error", "invalid_api_key"}:
        return KeyRefused(KEY_REFUSED)
    if words & {"429", "rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"}:
        return RateLimited(RATE_LIMITED, retry_after_s=None)
    if words & {"529", "overloaded_error"}:
        return Failed(OVERLOADED)
    message = _shown(message_of({"error": error}), key)
    return Failed(f"The provider reported: {message}" if message else "The provider reported an error.")


def message_of(answer: object) -> str:
    """The message in an error answer: {"error": {"message": …}}, {"error": "…"}, {"message": …}, or a list of such."""
    if isinstance(answer, list):
        answer = answer[0] if answer else None
    if not isinstance(answer, dict):
        return ""
    error = answer.get("error", answer)
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def retry_after_s(headers: Message) -> int | None:
    """The seconds that Retry-After asks for, as a number or a date; at most a day."""
    text = str(headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdecimal():
        return min(int(text[:9]), MAX_WAIT_S)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return max(0, min(round(seconds), MAX_WAIT_S))


def _shown(text: str, key: str) -> str:
    """The text on one line, without the key, parts of it and what looks like one."""
    text = "".join(
        character if character.isprintable() else " " for character in text[: 4 * MAX_MESSAGE_LENGTH]
    )
    if key:
        text = text.replace(key, "****")
    windows = {key[at : at + KEY_WINDOW] for at in range(len(key) - KEY_WINDOW + 1)}

    def without_parts(word: re.Match[str]) -> str:
        found = word[0]
        holds = any(found[at : at + KEY_WINDOW] in windows for at in range(len(found) - KEY_WINDOW + 1))
        return "****" if holds or _MASKED.search(found) else found

    text = _LIKE_A_KEY.sub("****", _WORD.sub(without_parts, text))
    return " ".join(_LONG.sub(_unlike_a_word, text).split())[:MAX_MESSAGE_LENGTH]


def _unlike_a_word(found: re.Match[str]) -> str:
    """Nothing of a long run of letters and digits; a long word stays."""
    characters = set(found[0])
    is_like_a_key = not characters.isdisjoint(digits) and not characters.isdisjoint(ascii_letters)
    return "****" if is_like_a_key else found[0]
