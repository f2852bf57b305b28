"""Reads what a provider says about an error, in whatever shape: its message, its words for it, when to try again.

Vendors, gateways and frameworks each have a shape of their own, and they nest them: a gateway repeats the answer of the
vendor as JSON inside a text. So nothing here depends on one shape: names of fields are known, not their places.
"""

import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any

from .untrusted_json import as_dict, as_list, parse_json

MAX_WAIT_S = 86_400
MAX_DEPTH = 6  # of the objects and lists around a message
MAX_LEVELS = 9  # of those around a word
MAX_OBJECTS = 100  # that are looked at in one error
MAX_WORD_LENGTH = 100
MAX_TEXT = 4000  # of a message before it is cleaned
MAX_ITEMS = 5  # of a list of messages

# The names of the fields that hold a message for people or lead to one, the best first. The value may be a text, an
# object, a list, or JSON as a text.
MESSAGE_FIELDS = (
    "error",
    "errors",
    "message",
    "Message",
    "msg",
    "detail",
    "error_message",
    "errorMessage",
    "error_msg",
    "err_msg",
    "errmsg",
    "errMsg",
    "error_description",
    "status_msg",
    "statusMessage",
    "base_resp",
    "description",
    "details",
    "reason",
    "text",
    "title",
    "exception",
    "response",
    "body",
    "data",
    "raw",
    "promptFeedback",
    "blockReasonMessage",
)
# what says more than the message beside it
DETAIL_FIELDS = (
    "metadata",
    "innererror",
    "inner_error",
    "upstream_error",
    "provider_error",
    "original_error",
    "cause",
)
# an object without a reply that has one of these is an error, whatever it has besides
REPORTING_FIELDS = ("error", "errors", "detail", "error_code", "errorCode", "err_code", "error_msg", "err_msg",
                    "error_message", "errorMessage", "exception", "promptFeedback")  # fmt: skip
MIN_ERROR_CODE = 400  # of a number in `code`, `status` or `base_resp`: of HTTP, or of a vendor
MAX_CATEGORIES = 10
# messages that say nothing: of what is inside, only the rest is shown
GENERIC = frozenset(
    ("provider returned error", "upstream error", "error", "bad request", "internal server error", "unknown error",
     "request failed", "an error occurred", "failed", "failure", "bad_request")
)  # fmt: skip
# fields that classify an error for programs
WORD_FIELDS = frozenset(
    ("code", "type", "status", "error_code", "errorCode", "error_type", "errorType", "err_code", "reason",
     "status_code", "statusCode", "__type", "kind", "tpe", "quotaId", "category", "blockReason", "title", "error")
)  # fmt: skip
# where more of them are, and no message
WORD_CONTAINERS = ("violations",)
WAIT_FIELDS = {
    "retry_after": 1.0,
    "retryAfter": 1.0,
    "retry_after_seconds": 1.0,
    "retryDelay": 1.0,
    "estimated_time": 1.0,
    "retry_after_ms": 0.001,
    "retryAfterMs": 0.001,
}
# headers with milliseconds come first: they are exact, and the same servers round Retry-After
WAIT_HEADERS = (
    ("Retry-After-Ms", 0.001),
    ("X-Ms-Retry-After-Ms", 0.001),
    ("Retry-After", 1.0),
    ("X-Retry-After", 1.0),
)
# for each kind of limit: what remains, and when it is full again
RESET_HEADERS = (
    ("X-RateLimit-Remaining-Requests", "X-RateLimit-Reset-Requests"),
    ("X-RateLimit-Remaining-Tokens", "X-RateLimit-Reset-Tokens"),
    ("Anthropic-RateLimit-Requests-Remaining", "Anthropic-RateLimit-Requests-Reset"),
    ("Anthropic-RateLimit-Tokens-Remaining", "Anthropic-RateLimit-Tokens-Reset"),
    ("X-RateLimit-Remaining", "X-RateLimit-Reset"),
    ("RateLimit-Remaining", "RateLimit-Reset"),
)
# AWS puts the class of an error into a header, followed by an address
WORD_HEADERS = ("X-Amzn-ErrorType", "X-Error-Code", "X-Ms-Error-Code")

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONG_UNITS = {"millisecond": 0.001, "second": 1.0, "minute": 60.0, "hour": 3600.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
_WAIT_IN_TEXT = re.compile(
    r"(?:try again|retry|wait|available|reset)\w{0,3} (?:(?:in|after|for) )?"
    r"(?:([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(milliseconds?|seconds?|minutes?|hours?)\b"
    r"|((?:[0-9.]{1,12}(?:ms|s|m|h|d)){1,4})(?![a-z]))"
)
_DATA_FIELD = re.compile(r"(?:data|error):")
_EVENT_FIELD = re.compile(r"(?:data|event|error|id|retry):")


@dataclass(slots=True)
class Said:
    """What a provider says about an error."""

    message: str = ""  # not cleaned
    words: set[str] = field(default_factory=set)
    status: int | None = None  # that is said in the body
    wait_s: float | None = None  # that is said in the body


def read_body(body: bytes) -> Said:
    """What an error response says, whatever its media type: JSON, an event, or plain text. Nothing of binary data."""
    value = parse_json(body)
    if value is not None or body.strip() == b"null":
        return read_value(value)
    text = body[: 4 * MAX_TEXT].decode(errors="replace").strip()
    if _EVENT_FIELD.match(text):
        data = [line.partition(":")[2].strip() for line in text.splitlines() if _DATA_FIELD.match(line)]
        return read_value(data[0] if data else "")
    return Said() if text.count("\ufffd") > len(text) // 20 or "\x00" in text else read_value(text)


def read_value(value: object) -> Said:
    """What a value says that reports an error: an object of any shape, a list, or a text, which may be JSON."""
    said = Said(message=_message_of(value, MAX_DEPTH) or _first_word(value))
    for count, found in enumerate(_objects_of(value, MAX_LEVELS)):
        if count == MAX_OBJECTS:
            break
        _take_words(said, found)
    if said.wait_s is None:
        said.wait_s = _wait_in_text(said.message)
    return said


def read_words_of_headers(headers: Message) -> set[str]:
    """The words in headers that classify an error."""
    values = (str(headers.get(name) or "") for name in WORD_HEADERS)
    return {value.split(":")[0].strip()[:MAX_WORD_LENGTH] for value in values if value}


def wait_of_headers(headers: Message) -> float | None:
    """The seconds to wait that the headers name, None if they name none."""
    for name, unit in WAIT_HEADERS:
        if (wait_s := _seconds(headers.get(name), unit)) is not None:
            return wait_s
    waits = [
        wait_s
        for remaining, reset in RESET_HEADERS
        if str(headers.get(remaining) or "").strip() == "0"
        and (wait_s := _seconds_until(headers.get(reset))) is not None
    ]
    return max(waits, default=None)


def whole_seconds(wait_s: float | None) -> int | None:
    """A number of seconds that is long enough, at most a day."""
    return None if wait_s is None else max(0, math.ceil(min(wait_s, MAX_WAIT_S)))


def reports_error(answer: Mapping[str, Any]) -> bool:
    """Whether an object, which has no reply in it, reports an error: it may also be a sign of life, or usage."""
    if any(answer.get(name) for name in REPORTING_FIELDS):
        return True
    code = as_dict(answer.get("base_resp")).get("status_code") or answer.get("code") or answer.get("status")
    if isinstance(code, int):
        return code >= MIN_ERROR_CODE
    return "error" in (answer.get("object"), answer.get("type"), answer.get("status"))


def blocked_categories(answer: Mapping[str, Any]) -> list[str]:
    """For what a filter of Azure has blocked the prompt."""
    results = [
        as_dict(as_dict(result).get("content_filter_results"))
        for result in as_list(answer.get("prompt_filter_results"))[:MAX_ITEMS]
    ]
    found = (name for result in results for name, value in result.items() if as_dict(value).get("filtered"))
    return list(dict.fromkeys(found))[:MAX_CATEGORIES]


# -- the message --------------------------------------------------------------------------------------------


def _message_of(value: object, depth: int) -> str:
    if isinstance(value, str):
        inner = _parsed(value)
        return _message_of(inner, depth - 1) if inner is not None and depth else value[:MAX_TEXT].strip()
    if depth <= 0:
        return ""
    if isinstance(value, list):
        found = [text for item in value[:MAX_ITEMS] if (text := _message_of(item, depth - 1))]
        return "; ".join(found)
    if not isinstance(value, dict):
        return ""
    if "loc" in value and isinstance(value.get("msg"), str):  # FastAPI's, one for each field
        names = (str(name) for name in as_list(value["loc"])[:8] if isinstance(name, (str, int)))
        return f"{'.'.join(names)}: {value['msg']}"
    return _joined(_first_message(value, depth), _more_of(value, depth))


def _first_message(value: Mapping[str, Any], depth: int) -> str:
    """The first message that says something; else the first one."""
    generic = ""
    for name in MESSAGE_FIELDS:
        if name in value and (text := _message_of(value[name], depth - 1)):
            if text.strip(" .!").lower() not in GENERIC:
                return text
            generic = generic or text
    return generic


def _first_word(value: object) -> str:
    """A word that stands for the message where there is none."""
    for found in _objects_of(value, MAX_LEVELS):
        for name in ("code", "type", "status", "blockReason"):
            if isinstance(found.get(name), str) and found[name]:
                return found[name][:MAX_WORD_LENGTH]
    return ""


def _more_of(value: Mapping[str, Any], depth: int) -> str:
    return next((text for name in DETAIL_FIELDS if (text := _inner_message(value.get(name), depth - 1))), "")


def _inner_message(value: object, depth: int) -> str:
    """The message in what stands beside a message; a word alone says nothing there."""
    if isinstance(value, dict) and not any(name in value for name in MESSAGE_FIELDS):
        return ""
    return _message_of(value, depth) if isinstance(value, (dict, str)) else ""


def _joined(outer: str, inner: str) -> str:
    if not inner or inner in outer:
        return outer
    return inner if not outer or outer.strip(" .!").lower() in GENERIC else f"{outer} ({inner})"


def _parsed(text: str) -> object:
    """The object or list that a text is as JSON, else None."""
    beginning = text[:200].lstrip()[:1]
    value = parse_json(text) if beginning in ("{", "[") and len(text) <= 65536 else None
    return value if isinstance(value, (dict, list)) else None


# -- the words ----------------------------------------------------------------------------------------------


def _objects_of(value: object, depth: int) -> Iterator[dict[str, Any]]:
    """The objects that are part of an error, the outer ones first."""
    level: list[object] = [value]
    for _ in range(depth):
        inner: list[object] = []
        for item in level:
            found = _parsed(item) if isinstance(item, str) else item
            if isinstance(found, dict):
                yield found
                names = (
                    name for name in (*MESSAGE_FIELDS, *DETAIL_FIELDS, *WORD_CONTAINERS) if name in found
                )
                inner += [found[name] for name in names]
            elif isinstance(found, list):
                inner += found[:MAX_ITEMS]
        level = inner[:MAX_OBJECTS]


def _take_words(said: Said, found: Mapping[str, Any]) -> None:
    for name in WORD_FIELDS & found.keys():
        word = found[name]
        if isinstance(word, str) and (not word.isascii() or not word.isdecimal()):
            if len(word) <= MAX_WORD_LENGTH:
                said.words.add(word)
        elif isinstance(word, (str, int)) and not isinstance(word, bool) and len(str(word)) <= 9:
            number = int(word)
            said.words.add(f"{name}:{number}")
            if 400 <= number <= 599 and said.status is None:
                said.status = number
    for name, unit in WAIT_FIELDS.items():
        if said.wait_s is None and name in found:
            said.wait_s = _seconds(found[name], unit)
    if said.wait_s is None and (headers := as_dict(found.get("headers"))):  # OpenRouter repeats them
        said.wait_s = wait_of_headers(_as_headers(headers))


def _as_headers(fields: Mapping[str, Any]) -> Message:
    headers = Message()
    for name, value in list(fields.items())[:50]:
        if isinstance(value, (str, int, float)):
            headers[name] = str(value)
    return headers


# -- when to try again --------------------------------------------------------------------------------------


def _seconds(value: object, unit: float = 1.0) -> float | None:
    """The seconds in a number, a duration such as "1m2.5s", or a date."""
    text = str(value).strip() if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
    if _NUMBER.fullmatch(text):
        return float(text) * unit
    if (seconds := _duration(text)) is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _seconds_until(value: object) -> float | None:
    """The seconds until a limit is reset: given as a duration, a number, a moment as a date, or since 1970."""
    text = str(value or "").strip()
    if _NUMBER.fullmatch(text) and float(text) > 1e9:
        moment = float(text) / (1000 if float(text) > 1e11 else 1)
        return max(0.0, moment - time.time())
    try:
        return max(0.0, _timestamp(text) - time.time())
    except ValueError:
        return _seconds(text)


def _timestamp(text: str) -> float:
    """The moment of a text such as 2026-01-31T12:00:00Z. Raises ValueError."""
    if "T" not in text:
        raise ValueError(text)
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _duration(text: str) -> float | None:
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _wait_in_text(message: str) -> float | None:
    """The wait in a message such as "Please try again in 1m2.5s."."""
    found = _WAIT_IN_TEXT.search(message[:MAX_TEXT].lower())
    if found is None:
        return None
    number, unit, duration = found.groups()
    return _duration(duration) if number is None else float(number) * _LONG_UNITS[unit.rstrip("s")]
