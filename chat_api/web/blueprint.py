"""The blueprint that every resource uses: flask-smorest's documentation around our own reading and writing.

flask-smorest documents what the decorators say. Reading the input stays ours, because its parser takes a body
without a JSON content type for an empty one and lets duplicate names, NaN and lone surrogates through; writing
the answer stays ours for the entity tags and for orjson.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial, wraps
from typing import Any

import flask_smorest
from flask import Response, request
from marshmallow import Schema, ValidationError
from marshmallow.exceptions import SCHEMA
from webargs.flaskparser import FlaskParser

from ..errors import InvalidInput
from .json_body import read_json_object
from .responses import changed_response, entity_response, json_response, no_content

View = Callable[..., Any]


class StrictParser(FlaskParser):
    """Loads a schema from the JSON body or from the query string; 400 for whatever does not fit."""

    DEFAULT_VALIDATION_STATUS = 400

    def use_args(self, argmap: Any, req: Any = None, *, location: str | None = None, **options: Any) -> Any:
        schema: Schema = argmap() if isinstance(argmap, type) else argmap
        # what a query string means depends on nothing else, and clients send the same few again and again
        load_query = lru_cache(maxsize=512)(partial(_load_query, schema))

        def decorator(view: View) -> View:
            @wraps(view)
            def with_input(*args: Any, **kwargs: Any) -> Any:
                if location == "query":
                    values = dict(load_query(request.query_string))
                else:
                    values = load(schema, read_json_object())
                return view(values, *args, **kwargs)

            return with_input

        return decorator


class Blueprint(flask_smorest.Blueprint):
    """A resource's blueprint. Views return plain values; `response` makes them JSON."""

    ARGUMENTS_PARSER = StrictParser()

    def response(self, status_code: int, schema: Any = None, **documentation: Any) -> Callable[[View], View]:
        """Document the answer, and dump the view's value by the schema unless it is a Response already."""
        document = super().response(status_code, schema, **documentation)
        output: Schema | None = schema() if isinstance(schema, type) else schema

        def decorator(view: View) -> View:
            @wraps(view)
            def answered(*args: Any, **kwargs: Any) -> Response:
                return _answer(view(*args, **kwargs), status_code, output)

            # only the documentation: smorest's own wrapper would look through the Response once more
            answered._apidoc = document(answered)._apidoc  # type: ignore[attr-defined]
            return answered

        return decorator


def _answer(value: Any, status: int, schema: Schema | None) -> Response:
    if isinstance(value, Response):
        return value
    if schema is None:
        return no_content()
    headers = None
    if isinstance(value, tuple):
        value, headers = value
    content = schema.dump(value)
    if status == 200 and request.method in ("GET", "HEAD") and not schema.many:
        return entity_response(content)
    # not PUT: what was sent is not what is shown, so its answer may have no ETag (RFC 9110 section 9.3.4)
    if status == 200 and request.method == "PATCH":
        return changed_response(content)
    return json_response(content, status, headers)


def load(schema: Schema, values: dict[str, Any]) -> dict[str, Any]:
    """Load by a schema; InvalidInput with all complaints, field by field."""
    try:
        return schema.load(values)
    except ValidationError as error:
        raise InvalidInput(flat_messages(error.normalized_messages())) from None


def _load_query(schema: Schema, query_string: bytes) -> dict[str, Any]:
    """Load the query's parameters. One that is given twice is refused: which one counts is anybody's guess."""
    values: dict[str, Any] = {}
    try:
        parameters = request.args
    except UnicodeDecodeError:  # raw bytes; what is percent-encoded is replaced instead, see below
        raise InvalidInput(detail="The query is not UTF-8.") from None
    for name, texts in parameters.lists():
        if len(texts) > 1:
            raise InvalidInput({name: ["Given more than once."]})
        if "\x00" in texts[0] or "\ufffd" in texts[0]:
            raise InvalidInput({name: ["It has a character that can't be read."]})
        values[name] = texts[0]
    return load(schema, values)


def flat_messages(messages: dict[str, Any]) -> dict[str, list[str]]:
    """Marshmallow nests messages by index and field; clients get one list for each field of the body.

    What is wrong inside a field is named in front of the message: `tools.0.function.name: Not a valid string.`
    """
    return {str(name): list(_texts(found)) for name, found in messages.items()}


def _texts(found: Any, path: str = "") -> Iterator[str]:
    if isinstance(found, dict):
        for name, nested in found.items():
            # "_schema" is marshmallow's word for the object itself
            yield from _texts(nested, path if name == SCHEMA else f"{path}.{name}" if path else str(name))
    elif isinstance(found, list):
        for nested in found:
            yield from _texts(nested, path)
    else:
        yield f"{path}: {found}" if path else str(found)
