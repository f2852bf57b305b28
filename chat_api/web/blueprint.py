"""The blueprint that every resource uses: flask-smorest's documentation around our own reading and writing.

flask-smorest makes the OpenAPI document of the decorators. Input is read by our own code, because its parser treats a
body without a JSON content type as empty and accepts duplicate names, NaN and lone surrogates; answers are written by
our own code for the entity tags and orjson.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import lru_cache, partial, wraps
from http import HTTPStatus
from itertools import islice
from typing import Any

import flask_smorest
from flask import Response, request
from flask_smorest.utils import deepupdate
from marshmallow import Schema, ValidationError, fields
from marshmallow.exceptions import SCHEMA
from webargs.flaskparser import FlaskParser
from werkzeug.datastructures import MultiDict

from ..errors import InvalidInput
from .echo import field_name
from .hints import with_hints
from .json_body import json_object, needs_small_body
from .openapi_components import BEARER, header_parameter
from .quick_load import loader_of
from .request_body import has_body
from .responses import changed_response, entity_response, json_response, no_content

View = Callable[..., Any]
MAX_ERRORS = 50  # fields that one answer names, and messages for each of them
_READS_QUERY = "_reads_query"  # the attribute of a view that has a schema for its query
_HEADER_PARAMETERS = "header_parameters"  # the entry of a view's `_apidoc` for the request headers it reads


class StrictParser(FlaskParser):
    """Loads a schema from the JSON body or from the query string; 400 for invalid input."""

    DEFAULT_VALIDATION_STATUS = 400

    def use_args(
        self,
        argmap: Any,
        req: Any = None,
        *,
        location: str | None = None,
        may_lack_body: bool = False,
        **options: Any,
    ) -> Any:
        schema: Schema = argmap() if isinstance(argmap, type) else argmap
        # the result depends on the query string alone, and clients repeat the same few
        load_query = lru_cache(maxsize=512)(partial(_load_query, schema))
        is_small = needs_small_body(schema)

        def decorator(view: View) -> View:
            @wraps(view)
            def with_input(*args: Any, **kwargs: Any) -> Any:
                if location == "query":
                    values = dict(load_query(request.query_string))
                elif may_lack_body and not has_body():
                    values = load(schema, {})
                else:
                    with json_object(is_small=is_small) as body:
                        values = load(schema, body)
                return view(values, *args, **kwargs)

            if location == "query":
                setattr(with_input, _READS_QUERY, True)
            return with_input

        return decorator


class Blueprint(flask_smorest.Blueprint):
    """A resource's blueprint. Views return plain values; `response` makes them JSON.

    An endpoint documents itself: what no rule for all endpoints says stands above its view, as `problems`, `links`,
    `header_parameter`, `bearer_token` or `doc`.
    """

    ARGUMENTS_PARSER = StrictParser()

    def __init__(self, *args: Any, ignores_query: bool = False, **kwargs: Any) -> None:
        """With `ignores_query`, query parameters that no view reads are not refused."""
        super().__init__(*args, **kwargs)
        self.ignores_query = ignores_query
        self._prepare_doc_cbks.append(_add_header_parameters)

    def route(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Register a view. One without a schema for its query refuses every query parameter."""
        register = super().route(rule, **options)

        def decorator(view: View) -> View:
            is_strict = not self.ignores_query and not hasattr(view, _READS_QUERY)
            return register(_without_query(view) if is_strict else view)

        return decorator

    def arguments(
        self, schema: Any, *, required: bool = True, documented: bool = True, **options: Any
    ) -> Callable[[View], View]:
        """Read the body, or with `location="query"` the query. A body that is not `required` may be left out.

        What is not `documented` goes on working for the clients that know it.
        """
        if not required:
            options["may_lack_body"] = True
        if not documented:
            read: Callable[[View], View] = self.ARGUMENTS_PARSER.use_args(schema, **options)
            return read
        decorate: Callable[[View], View] = super().arguments(schema, required=required, **options)
        return decorate

    @staticmethod
    def doc(**documentation: Any) -> Callable[[View], View]:
        """Add to a view's operation in the document. Unlike smorest's own it puts no wrapper around the view."""
        return lambda view: _note(view, manual_doc=documentation)

    @classmethod
    def problems(cls, *statuses: int) -> Callable[[View], View]:
        """Document errors that this endpoint may answer besides those that its kind of endpoint always may."""
        names = {status: HTTPStatus(status).name for status in statuses}
        return cls.doc(
            responses={status: {"$ref": f"#/components/responses/{name}"} for status, name in names.items()}
        )

    @classmethod
    def links(
        cls,
        *operations: str,
        status: int = 201,
        body: dict[str, str] | None = None,
        **parameters: str,
    ) -> Callable[[View], View]:
        """Document which operations take a field of this answer, in their path (`conversation_id="id"`) or `body`."""
        link: dict[str, Any] = {}
        if parameters:
            link["parameters"] = _from_answer(parameters)
        if body:
            link["requestBody"] = _from_answer(body)
        named = {_camel_case(operation): {"operationId": operation, **link} for operation in operations}
        return cls.doc(responses={status: {"links": named}})

    @staticmethod
    def header_parameter(name: str, description: str, **schema: Any) -> Callable[[View], View]:
        """Document a request header that this endpoint reads."""
        return lambda view: _note(
            view, **{_HEADER_PARAMETERS: {name: header_parameter(name, description, **schema)}}
        )

    @classmethod
    def bearer_token(cls, view: View) -> View:
        """Document that a view of an unguarded blueprint checks the bearer token itself."""
        return cls.problems(401)(cls.doc(security=BEARER)(view))

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


def _note(view: View, **notes: Any) -> View:
    """Add to what flask-smorest knows of a view; the functions inside it keep a dictionary of their own."""
    view._apidoc = deepupdate(deepcopy(getattr(view, "_apidoc", {})), notes)  # type: ignore[attr-defined]
    return view


def _add_header_parameters(doc: dict[str, Any], doc_info: dict[str, Any], **context: Any) -> dict[str, Any]:
    """Complete an operation, as one of flask-smorest's own steps."""
    if added := doc_info.get(_HEADER_PARAMETERS):
        doc["parameters"] = [*doc.get("parameters", ()), *added.values()]
    return doc


def _from_answer(fields: dict[str, str]) -> dict[str, str]:
    return {name: f"$response.body#/{field}" for name, field in fields.items()}


def _camel_case(operation: str) -> str:
    return operation.title().replace("_", "")


def _without_query(view: View) -> View:
    """Refuse what the view would ignore: a misspelled parameter should not look as if it had been obeyed."""

    @wraps(view)
    def strict(*args: Any, **kwargs: Any) -> Any:
        if request.environ.get("QUERY_STRING"):
            _load_query(_NO_PARAMETERS, request.query_string)
        return view(*args, **kwargs)

    return strict


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
    # not PUT: the stored object differs from the body, so its answer must not have an ETag (RFC 9110 section 9.3.4)
    if status == 200 and request.method == "PATCH":
        return changed_response(content)
    return json_response(content, status, headers)


def load(schema: Schema, values: dict[str, Any]) -> dict[str, Any]:
    """Load by a schema. Raises InvalidInput with the messages for each invalid field.

    null for an optional field means that it is not given, unless it is a value of that field.
    """
    try:
        return _loader_of(schema)(without_nulls(schema, values))
    except ValidationError as error:
        # marshmallow's frames refer to the error, and it to them and to all that was sent: megabytes until the
        # collector comes
        error.__traceback__ = None
        messages = flat_messages(with_hints(schema, error.normalized_messages()))
    raise InvalidInput(messages)


_loader_of = lru_cache(maxsize=1024)(loader_of)


def without_nulls(schema: Schema, values: dict[str, Any]) -> dict[str, Any]:
    """The values without the fields, also of nested schemas, that are null and may be left out."""
    known = schema.load_fields
    return {
        name: _without_nulls(known.get(name), value)
        for name, value in values.items()
        if value is not None or not _may_be_left_out(known.get(name))
    }


def _may_be_left_out(field: fields.Field | None) -> bool:
    return field is not None and not field.required and not field.allow_none


def _without_nulls(field: fields.Field | None, value: Any) -> Any:
    if isinstance(value, dict) and isinstance(field, fields.Nested):
        return without_nulls(field.schema, value)
    if isinstance(value, list) and isinstance(field, fields.List):
        return [_without_nulls(field.inner, item) for item in value]
    return value


def query_parameters() -> MultiDict[str, str]:
    """The parameters of the query. Raises InvalidInput where it can't be read."""
    try:
        return request.args
    except UnicodeDecodeError:  # raw bytes; what is percent-encoded is replaced instead
        raise InvalidInput(detail="The query string is not UTF-8.") from None


def _load_query(schema: Schema, query_string: bytes) -> dict[str, Any]:
    """Load the query's parameters. A repeated one is refused, because it is unclear which of them counts."""
    values: dict[str, Any] = {}
    for name, texts in query_parameters().lists():
        if len(texts) > 1:
            raise InvalidInput({field_name(name): ["Given more than once."]})
        if "\x00" in texts[0] or "\ufffd" in texts[0]:
            raise InvalidInput({field_name(name): ["Must not contain a NUL character or malformed UTF-8."]})
        values[name] = texts[0]
    return load(schema, values)


_NO_PARAMETERS = Schema()


def flat_messages(messages: dict[str, Any]) -> dict[str, list[str]]:
    """Marshmallow nests messages by index and field; clients get one list for each field of the body.

    The path inside a field precedes the message: `tools.0.function.name: Not a valid string.` Of very many errors the
    first ones are named. Names that are not ours are only repeated where they look like names.
    """
    flat: dict[str, dict[str, None]] = {}
    for name, found in islice(messages.items(), MAX_ERRORS):
        flat.setdefault(field_name(name), {}).update(dict.fromkeys(islice(_texts(found), MAX_ERRORS)))
    return {name: list(texts) for name, texts in flat.items()}


def _texts(found: Any, path: str = "") -> Iterator[str]:
    if isinstance(found, dict):
        for name, nested in found.items():
            if name != SCHEMA:  # marshmallow's word for the object itself
                yield from _texts(nested, f"{path}.{field_name(name)}" if path else field_name(name))
            else:
                yield from _texts(nested, path)
    elif isinstance(found, list):
        for nested in found:
            yield from _texts(nested, path)
    else:
        yield f"{path}: {found}" if path else str(found)
