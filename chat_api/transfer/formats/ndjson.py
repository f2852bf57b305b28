"""Our own export as records: one JSON object in each line, checked line by line."""

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import IO, Any

import orjson
from marshmallow import ValidationError

from ...web.blueprint import flat_messages
from ...web.echo import short_value
from ...web.fields import is_uuid
from ...web.json_values import has_more_values
from ...web.quick_load import loader_of
from ..limits import LARGE_BYTES, MAX_VALUES, UnreadableFile
from ..records import (
    ATTACHMENT,
    COMPLETION,
    CONFIG,
    CONVERSATION,
    END,
    HEADER,
    MESSAGE,
    PROVIDER,
    Fault,
    Record,
)
from ..schemas import LINES, VERSION, content_limit
from ..slots import one_large_line

_RECORDS = (CONVERSATION, MESSAGE, ATTACHMENT, COMPLETION, PROVIDER, CONFIG)
# how our own lines begin: of a line that is otherwise unreadable, whether it starts a conversation
_BEGINNING = re.compile(rb'\s*\{\s*"type"\s*:\s*"(%s)"' % "|".join(LINES).encode())
_LOADERS = {kind: loader_of(schema) for kind, schema in LINES.items()}
LINES_PER_CHECK = 1000
MAX_DETAIL_LENGTH = 500
_MAY_BE_EMPTY = ("assistant", "tool", "user")  # a reply, a result, and a message that is its attachments
CUT_OFF = "The file ends without its last line: it was cut off."


class _Refused(Exception):
    """What is wrong with a line."""


def read_export(
    file: IO[bytes], *, max_line_bytes: int, check: Callable[[], None] = lambda: None
) -> Iterator[Record | Fault]:
    """The records of an export of ours, and the faults in it. Raises UnreadableFile where the head is not one.

    `check` is called every now and then, and may end it all by raising.
    """
    lines = _lines(file, max_line_bytes, check)
    number, line = next(lines, (1, b""))
    _require_head(line, max_line_bytes)
    counts = {CONVERSATION: 0, MESSAGE: 0}
    end: dict[str, Any] | None = None
    for number, line in lines:
        if end is not None:
            yield Fault(number, "Something follows the last line of the export.", END)
            return
        kind: str | None = None
        fields: dict[str, Any] = {}
        try:
            with one_large_line if line is not None and len(line) > LARGE_BYTES else nullcontext():
                kind, fields = _parsed(line, max_line_bytes)
                counts[kind] = counts.get(kind, 0) + 1
                fields = _checked(kind, fields)
        except _Refused as error:
            yield Fault(number, str(error), kind or _claimed_kind(line), _claimed_id(kind, fields))
            continue
        if kind == END:
            end = fields
            if (fields["conversations"], fields["messages"]) != (counts[CONVERSATION], counts[MESSAGE]):
                detail = (
                    f"The export had {fields['conversations']} conversations and {fields['messages']} messages; "
                    f"this file has {counts[CONVERSATION]} and {counts[MESSAGE]}."
                )
                yield Fault(number, detail, END)
        elif kind in _RECORDS:
            yield Record(number, kind, fields, size_bytes=len(line or b""))
    if end is None:
        yield Fault(number, CUT_OFF)


def _claimed_kind(line: bytes | None) -> str | None:
    """The type of a line of which nothing else may be readable."""
    match = _BEGINNING.match(line or b"")
    return match[1].decode() if match else None


def _claimed_id(kind: str | None, fields: dict[str, Any]) -> str | None:
    """The id of the conversation that an invalid line would start."""
    claimed = fields.get("id") if kind == CONVERSATION else None
    return claimed.lower() if isinstance(claimed, str) and is_uuid(claimed) else None


def _lines(file: IO[bytes], max_bytes: int, check: Callable[[], None]) -> Iterator[tuple[int, bytes | None]]:
    """The lines that are not blank, with their numbers; None for one that is too long."""
    number = 0
    while line := file.readline(max_bytes + 1):
        number += 1
        if not number % LINES_PER_CHECK:
            check()
        if len(line) > max_bytes and not line.endswith(b"\n"):
            while (rest := file.readline(1024 * 1024)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif number == 1:
            yield number, line.removeprefix(b"\xef\xbb\xbf")
        elif line.strip():
            yield number, line


def _require_head(line: bytes | None, max_bytes: int) -> None:
    """Raise UnreadableFile unless this is the first line of an export that this version can read."""
    try:
        kind, fields = _parsed(line, max_bytes)
    except _Refused as error:
        raise UnreadableFile(f"Line 1: {error}") from None
    if kind != HEADER:
        raise UnreadableFile('Line 1: An export begins with {"type":"export"}.')
    version = fields.get("version")
    if version != VERSION or isinstance(version, bool):
        found = short_value(version)
        raise UnreadableFile(f"Line 1: This is version {found} of the format; {VERSION} can be read.")


def _parsed(line: bytes | None, max_bytes: int) -> tuple[str, dict[str, Any]]:
    """The type of a line and its fields."""
    if line is None:
        raise _Refused(f"The line is longer than {max_bytes} bytes.")
    if has_more_values(line, MAX_VALUES):
        raise _Refused(f"The line has more than {MAX_VALUES} values.")
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _Refused(f"The line is not JSON: {error.msg} (column {error.colno}).") from None
    if not isinstance(fields, dict):
        raise _Refused("The line is not a JSON object.")
    kind = fields.pop("type", None)
    if not isinstance(kind, str) or kind not in LINES:
        raise _Refused(f"`type` must be one of: {', '.join(LINES)}.")
    if b"\\u0000" in line and _has_nul(fields):
        raise _Refused("A NUL character can't be stored.")
    return kind, fields


def _checked(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as the line's schema loads them."""
    if kind == HEADER:
        raise _Refused("Another export begins here.")
    try:
        loaded = _LOADERS[kind](fields)
    except ValidationError as error:
        found = flat_messages(error.normalized_messages())
        text = " ".join(f"{name}: {text}" for name, texts in found.items() for text in texts)
        raise _Refused(text if len(text) <= MAX_DETAIL_LENGTH else text[:MAX_DETAIL_LENGTH] + "…") from None
    if kind == MESSAGE:
        limit = content_limit(loaded["role"])
        if not loaded["content"] and loaded["role"] not in _MAY_BE_EMPTY:
            raise _Refused("content: Shorter than minimum length 1.")
        if len(loaded["content"]) * 4 > limit and len(loaded["content"].encode()) > limit:
            raise _Refused(f"content: Longer than {limit} bytes in UTF-8.")
    return loaded


def _has_nul(value: Any) -> bool:
    """Whether NUL is anywhere in it, in names or values."""
    pending = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, str):
            if "\x00" in current:
                return True
        elif isinstance(current, dict):
            pending.extend(current)
            pending.extend(current.values())
        elif isinstance(current, list):
            pending.extend(current)
    return False
