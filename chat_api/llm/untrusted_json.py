"""Reads providers' JSON defensively: a field of the wrong type counts as missing."""

import json
import re
from typing import Any

import orjson

_SURROGATE = re.compile("[\ud800-\udfff]")
MAX_COUNT = 2**31 - 1
MAX_TEXT_DEPTH = 4  # of nested parts
REQUEST_DEPTH = 16  # levels of a request around a value


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; None if it is not JSON. Accepts NaN and lone surrogates, which some servers send."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return _without_surrogates(
            json.loads(text.decode(errors="replace") if isinstance(text, bytes) else text)
        )
    except (ValueError, RecursionError):
        return None


def _without_surrogates(value: Any) -> Any:
    """The same value, with lone surrogates replaced: they can't be encoded or stored."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


def as_dict(value: object) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: object, depth: int = MAX_TEXT_DEPTH) -> str:
    """The value if it is text, or the joined texts of its parts, else an empty text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "".join(
            as_text(part.get("text") if isinstance(part, dict) else part, depth - 1) for part in value
        )
    return ""


def is_serializable(value: object) -> bool:
    """Whether the value can be part of a request's JSON: not nested too deeply, no integer beyond 64 bits."""
    for _ in range(REQUEST_DEPTH):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def as_count(value: object) -> int | None:
    """The value if it can be a number of tokens, else None."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
        return value
    return None
