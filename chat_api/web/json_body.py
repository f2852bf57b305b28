"""Reading a JSON request body: the one parser, stricter than the standard library's defaults.

RFC 8259 leaves duplicate names undefined (section 4), so they are refused; NaN and Infinity are not JSON
(section 6); a lone surrogate can't be stored as UTF-8 (section 8.2) and NUL can't be stored by Postgres.
"""

import codecs
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import current_app, request
from marshmallow import Schema, fields

from ..errors import InvalidInput, NotSentAsJson
from .echo import field_name
from .fields import Text
from .json_values import BEFORE_NAMES_AND_VALUES, has_more_values
from .request_body import SMALL_BODY_BYTES, receive_body, waiting_for_client

# Names and values. The tools of a completion have some thousand. As objects so many take 5 to 20 MB of memory.
MAX_VALUES = 50_000
MAX_DIGITS = 400  # of an integer: the largest float has 309, and the time to convert grows with their square
SHORT_FIELD_CHARACTERS = 64  # of an id, a word of a list, a number
LONGEST_ESCAPE = 12  # bytes of a character beyond the Basic Multilingual Plane, as two \uXXXX
LONGEST_ESCAPE_OF_BYTE = 6  # bytes that one byte of text may take: \u0001

UNSTORABLE = re.compile("[\\x00\\ud800-\\udfff]")

_one_large_body = threading.Lock()


def needs_small_body(schema: Schema) -> bool:
    """Whether SMALL_BODY_BYTES are enough for the longest values that a schema takes."""
    longest = sum(
        _longest_json(field) + LONGEST_ESCAPE * len(name) for name, field in schema.load_fields.items()
    )
    return longest <= SMALL_BODY_BYTES


def _longest_json(field: fields.Field) -> float:
    """The most bytes that a valid value takes, with everything escaped; infinity where the field does not say.

    A field of another kind says it as its attribute `longest_json`.
    """
    if (longest := getattr(field, "longest_json", None)) is not None:
        return float(longest)
    if isinstance(field, Text):
        if field.max_bytes is not None:
            return LONGEST_ESCAPE_OF_BYTE * field.max_bytes
        return LONGEST_ESCAPE * field.longest
    if isinstance(field, fields.String | fields.Boolean | fields.Number):
        return LONGEST_ESCAPE * SHORT_FIELD_CHARACTERS
    return float("inf")


@contextmanager
def json_object(
    *,
    is_small: bool,
    may_have_files: bool = False,
    max_values: int = MAX_VALUES,
    note: Callable[[bytes], None] | None = None,
    mends_text: bool = False,
) -> Iterator[dict[str, Any]]:
    """The request's body as an object. While the block loads it, this process has no other large one in memory.

    `may_have_files` gives room for files in Base64. `max_values` are the names and values that it may have. `note` is
    given the body as it was sent. With `mends_text` U+FFFD stands for what can't be stored of texts.

    Raises NotSentAsJson (415), PayloadTooLarge (413, before more than the limit is read) and InvalidInput (400).
    """
    environ = request.environ
    if environ.get("CONTENT_TYPE") != "application/json" or "HTTP_CONTENT_ENCODING" in environ:
        _require_json()
    limit: int = current_app.config["MAX_BODY_BYTES"]
    if may_have_files:
        limit = max(limit, current_app.config["MAX_INLINE_BODY_BYTES"])
    body = receive_body(min(SMALL_BODY_BYTES, limit) if is_small else limit)
    if isinstance(body, bytes):
        yield _parsed_object(body, max_values, note, mends_text)
        return
    with body:
        with waiting_for_client():  # without a slot, which the others need that don't wait
            _one_large_body.acquire()
        try:
            yield _parsed_object(body.read(), max_values, note, mends_text)
        finally:
            _one_large_body.release()


def _parsed_object(
    raw: bytes, max_values: int, note: Callable[[bytes], None] | None, mends_text: bool
) -> dict[str, Any]:
    if note is not None:
        note(raw)
    value = parse_json(raw, max_values, mends_text=mends_text)
    if not isinstance(value, dict):
        raise InvalidInput(detail="The body must be a JSON object.")
    return value


def _require_json() -> None:
    """Check a request whose Content-Type is not simply `application/json`."""
    options = request.mimetype_params
    if (
        request.mimetype != "application/json"
        or options.get("charset", "utf-8").lower() not in ("utf-8", "utf8")
        or request.headers.get("Content-Encoding", "identity").lower() != "identity"
    ):
        if not request.content_length and "Transfer-Encoding" not in request.headers:
            raise InvalidInput(detail="The body is missing; send a JSON object.")
        raise NotSentAsJson()


def parse_json(raw: bytes, max_values: int = MAX_VALUES, *, mends_text: bool = False) -> Any:
    """Parse strictly. Raises InvalidInput, with line and column of the error where there are any."""
    raw = raw.removeprefix(codecs.BOM_UTF8)  # some editors and Windows tools write one; RFC 8259 section 8.1
    if has_more_values(raw, max_values + 1, separators=BEFORE_NAMES_AND_VALUES):
        raise InvalidInput(detail=f"The body has more than {max_values} names and values.")
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInput(detail=f"The body is not UTF-8: invalid byte at offset {error.start}.") from None
    except json.JSONDecodeError as error:
        position = f"line {error.lineno}, column {error.colno}"
        raise InvalidInput(detail=f"The body is not JSON ({position}): {error.msg}.") from None
    except RecursionError:
        raise InvalidInput(detail="The body is nested too deeply.") from None
    except _Refused as error:
        raise InvalidInput(detail=str(error)) from None
    if b"\\u" in raw:  # the only way for NUL and lone surrogates to come in: as escapes
        if mends_text:
            return _with_storable_texts(value)
        _refuse_unstorable_text(value)
    return value


class _Refused(ValueError):
    """Valid for Python's parser, but not for us."""


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _Refused("The body has an object with a duplicate name.")
    return fields


def _refuse_constant(name: str) -> None:
    raise _Refused(f"The body is not JSON: {name} is not a JSON value.")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _Refused("The body contains a number with too many digits.")
    return int(digits)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_names, parse_constant=_refuse_constant, parse_int=_integer
)


def _refuse_unstorable_text(value: Any) -> None:
    """Refuse NUL and lone surrogates, in names and values, without recursion: depth is the client's choice."""
    pending = [(None, value)]
    while pending:
        name, current = pending.pop()
        if isinstance(current, str):
            _check_text(name, current)
        elif isinstance(current, dict):
            for key, item in current.items():
                _check_text(None, key)
                pending.append((name or key, item))
        elif isinstance(current, list):
            pending.extend((name, item) for item in current)


def _check_text(name: str | None, text: str) -> None:
    if "\x00" in text:
        message = "Must not contain a NUL character."
    elif _has_lone_surrogate(text):
        message = "Must not contain an unpaired surrogate."
    else:
        return
    if name is None:
        raise InvalidInput(detail="A name in the body contains a NUL character or an unpaired surrogate.")
    raise InvalidInput({field_name(name): [message]})


def _with_storable_texts(value: Any) -> Any:
    """The value with U+FFFD for NUL and lone surrogates, in names and values; what is in it is changed in place."""
    whole = [value]
    pending: list[Any] = [whole]
    while pending:  # without recursion: depth is the client's choice
        outer = pending.pop()
        for key, item in list(outer.items() if isinstance(outer, dict) else enumerate(outer)):
            if isinstance(item, dict | list):
                pending.append(item)
            elif isinstance(item, str) and not is_storable(item):
                outer[key] = UNSTORABLE.sub("\ufffd", item)
            if isinstance(key, str) and not is_storable(key):
                outer[UNSTORABLE.sub("\ufffd", key)] = outer.pop(key)
    return whole[0]


def is_storable(text: str) -> bool:
    """Whether both databases can hold it: no NUL, no lone surrogate."""
    return "\x00" not in text and not _has_lone_surrogate(text)


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
