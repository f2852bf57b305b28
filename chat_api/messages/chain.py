"""The chain hash of a message: what was said up to it, in 16 bytes.

A client that sends a whole history is recognised by it: its messages have the same chain hashes as those that are
stored. It is the hash of the parent's chain hash and of the message's own digest. The digest is known before the
parent is, so the statement that inserts a message makes the chain hash of both (`database/chaining.py`).

It is no secret, and not keyed: the texts are in the same row, and a key could never be changed again.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

LARGEST_EXACT = 2**53  # up to here each whole number is one of JavaScript's


def digest_of(
    *,
    role: str,
    content: str,
    tool_calls: Sequence[Mapping[str, str]] = (),
    tool_call_id: str | None = None,
    file_hashes: Iterable[str] = (),
) -> str:
    """What one message says, as text: its role, text, calls, the call that it answers, and the hashes of its files.

    Arguments of calls are compared as JSON: clients parse them and write them again, JavaScript `2.0` as `2`.
    """
    calls = [[call["id"], call["name"], _normal(call["arguments"])] for call in tool_calls]
    said = orjson.dumps([role, content, calls, tool_call_id, list(file_hashes)])
    return hashlib.sha256(said).hexdigest()


def digest_of_row(*, row: Mapping[str, Any], file_hashes: Iterable[str] = ()) -> str:
    """The digest of a message with these columns, and of files that are attached to it from the beginning."""
    calls = row.get("tool_calls")
    return digest_of(
        role=row["role"],
        content=row["content"],
        tool_calls=orjson.loads(calls) if calls else (),
        tool_call_id=row.get("tool_call_id"),
        file_hashes=file_hashes,
    )


def _normal(arguments: str) -> str:
    """Arguments as every client writes them; as they are where they are no JSON, or nested too deeply."""
    try:
        given = _with_doubles(orjson.loads(arguments or "{}"))
        return orjson.dumps(given, option=orjson.OPT_SORT_KEYS).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return arguments


def _with_doubles(value: Any) -> Any:
    """The value with numbers as JavaScript has them: equal ones are written alike. Raises RecursionError."""
    if isinstance(value, dict):
        return {name: _with_doubles(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_doubles(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_EXACT:
        return int(value)
    if isinstance(value, int) and abs(value) > LARGEST_EXACT:
        return float(value)
    return value
