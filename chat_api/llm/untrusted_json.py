"""Takes what is there out of answers that providers shape in many ways: never raises over a wrong type."""

import json
import re
from typing import Any

import orjson

_SURROGATE = re.compile("[\ud800-\udfff]")
MAX_COUNT = 2**31 - 1
MAX_TEXT_DEPTH = 4  # of parts in parts
ROOM = 16  # levels of a request around a value


def loads(text: str | bytes) -> Any:
    """The JSON value of a text, None where it is none. Also takes NaN and cut surrogate pairs, as some servers send."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return _clean(json.loads(text.decode(errors="replace") if isinstance(text, bytes) else text))
    except (ValueError, RecursionError):
        return None


def _clean(value: Any) -> Any:
    """The same with text that can be stored."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_clean(name): _clean(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value


def as_dict(value: object) -> dict[str, Any]:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """The value where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: object, depth: int = MAX_TEXT_DEPTH) -> str:
    """The value where it is text, or the texts of its parts, else none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "".join(
            as_text(part.get("text") if isinstance(part, dict) else part, depth - 1) for part in value
        )
    return ""


def can_be_sent(value: object) -> bool:
    """Whether a value that was read can be written as part of a request: not too deep, no number beyond 64 bits."""
    for _ in range(ROOM):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def as_count(value: object) -> int | None:
    """The value where it can be a number of tokens, else None."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
        return value
    return None
