"""Reads providers' JSON defensively: a field of the wrong type counts as missing."""

import json
import re
from typing import Any

import orjson

from ..egress.errors import Failed

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
MAX_COUNT = 2**31 - 1
MAX_TEXT_DEPTH = 4  # of nested parts
MAX_ITEMS = 1000  # of a list that is gone through item by item, such as the parts of a text
MAX_CONTAINERS = (
    200_000  # objects and arrays of a whole response: each takes 60 bytes and more, and "{}," only three
)
REQUEST_DEPTH = 16  # levels of a request around a value


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; None if it is not JSON. Accepts NaN and lone surrogates, which some servers send."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if not text:
            return None
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    try:
        value = json.loads(text)
        return _without_surrogates(value) if _ESCAPED_SURROGATE.search(text) else value
    except (ValueError, RecursionError):
        return None


def parse_whole(content: bytes) -> Any:
    """Parse a whole response, as `parse_json` does. Raises Failed where it would take much more memory than bytes."""
    if has_too_many_containers(content):
        raise Failed(f"The provider's response has more than {MAX_CONTAINERS} objects and arrays.")
    return parse_json(content)


def has_too_many_containers(content: bytes) -> bool:
    """Whether there are so many objects and arrays in it that parsing would take much more memory than its bytes."""
    return content.count(b"{") + content.count(b"[") > MAX_CONTAINERS


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


def items_of(value: object) -> list[Any]:
    """The value if it is a list, else an empty one. Raises Failed where it has more items than any server sends."""
    items = as_list(value)
    if len(items) > MAX_ITEMS:
        raise Failed(f"The provider sent a list of more than {MAX_ITEMS} items.")
    return items


def as_text(value: object, depth: int = MAX_TEXT_DEPTH) -> str:
    """The value if it is text, or the joined texts of its parts, else an empty text. Raises as `items_of` does."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "".join(
            as_text(part.get("text") if isinstance(part, dict) else part, depth - 1)
            for part in items_of(value)
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
    """The value if it can be a number of tokens, else None. Some servers write it with a decimal point."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
        return value
    return None
