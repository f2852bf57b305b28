"""Reading a JSON request body: the one parser, stricter than the standard library's defaults.

RFC 8259 leaves duplicate names undefined (section 4), so they are refused; NaN and Infinity are not JSON
(section 6); a lone surrogate can't be stored as UTF-8 (section 8.2) and NUL can't be stored by Postgres.
"""

import json
from typing import Any

from flask import current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from ..errors import InvalidInput, NotSentAsJson
from .echo import field_name


def read_json_object() -> dict[str, Any]:
    """The request's body as an object.

    Raises NotSentAsJson (415), RequestEntityTooLarge (413, before more than the limit is read) and InvalidInput (400).
    """
    environ = request.environ
    if environ.get("CONTENT_TYPE") != "application/json" or "HTTP_CONTENT_ENCODING" in environ:
        _require_json()
    body = parse_json(_read_body(environ))
    if not isinstance(body, dict):
        raise InvalidInput(detail="The body must be a JSON object.")
    return body


def _read_body(environ: dict[str, Any]) -> bytes:
    """The bytes of the body; the usual case, a body of a given length, without werkzeug's streams around it."""
    limit, length = current_app.config["MAX_CONTENT_LENGTH"], environ.get("CONTENT_LENGTH", "")
    if length.isdecimal() and int(length) <= limit and "HTTP_TRANSFER_ENCODING" not in environ:
        raw: bytes = environ["wsgi.input"].read(int(length))
        if len(raw) != int(length):
            raise InvalidInput(detail="The body ended before its Content-Length.")
        return raw
    raw = request.get_data(cache=False)
    # werkzeug silently truncates a body without a Content-Length at the limit
    if "HTTP_TRANSFER_ENCODING" in environ and len(raw) >= limit:
        raise RequestEntityTooLarge()
    return raw


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


def parse_json(raw: bytes) -> Any:
    """Parse strictly. Raises InvalidInput, with line and column of the error where there are any."""
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
    except ValueError:  # int() refuses numbers of more than 4,300 digits
        raise InvalidInput(detail="The body contains a number with too many digits.") from None
    if b"\\u" in raw:  # the only way for NUL and lone surrogates to come in: as escapes
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


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_names, parse_constant=_refuse_constant)


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


def is_storable(text: str) -> bool:
    """Whether both databases can hold it: no NUL, no lone surrogate."""
    return "\x00" not in text and not _has_lone_surrogate(text)


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
