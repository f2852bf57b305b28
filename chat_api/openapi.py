"""The OpenAPI document and its page: what flask-smorest gathers from the views, completed by the rules that hold for
every endpoint of a kind (every error is a problem, every creating POST takes an Idempotency-Key, …).

What holds for one endpoint alone is documented at its view, by the decorators of `web.blueprint`."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from threading import Lock
from typing import Any

import click
import flask_smorest
import orjson
from flask import (
    Blueprint,
    Flask,
    current_app,
    make_response,
    redirect,
    render_template,
    request,
    send_from_directory,
)
from flask.cli import AppGroup
from flask_smorest.utils import deepupdate
from flask_swagger_ui import get_swaggerui_blueprint
from marshmallow import fields
from werkzeug.wrappers import Response

from . import problem_codes
from .auth import guard
from .errors import ERROR_CODES
from .idempotency import takes_idempotency_key
from .web import openapi_components as components
from .web.fields import Output
from .web.openapi_examples import add_examples, example_id
from .web.own_address import own_address
from .web.responses import REVALIDATE, raw_entity_response
from .web.url_converters import IdConverter

VERSION = "0.2.0.dev0"  # also in pyproject.toml
EXTENSION = "chat_api.openapi"
# the page runs its own scripts and styles, of which Swagger UI writes some into it, and calls this service only
PAGE_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
BODY_ERRORS = (400, 408, 413, 415)
METHODS = ("get", "post", "put", "patch", "delete")

pages = Blueprint("documentation", __name__)
commands = AppGroup("openapi", help="The OpenAPI document.")


@pages.route("/", methods=["GET"])
def get_root() -> Response:
    """The address that people try first: lead them to the page about all others."""
    return redirect(f"{request.script_root}/docs")


@pages.route("/openapi.json", methods=["GET"])
def get_openapi() -> Response:
    """The document, with the address that this request came by as its server."""
    return raw_entity_response(_encoded(current_app, own_address(request)))


@commands.command("print")
def print_document() -> None:
    """Print the document that is served at /openapi.json."""
    config = current_app.config
    click.echo(_encoded(current_app, config["PUBLIC_URL"] or f"http://{config['HOST']}:{config['PORT']}"))


def _encoded(app: Flask, server: str) -> bytes:
    """The document as JSON for a server at this address; all else is made once for each process."""
    gathered: Gathered = app.extensions[EXTENSION]
    with gathered.lock:
        if gathered.encoded is None:
            gathered.encoded = orjson.dumps(document(app, gathered))
        encoded = gathered.encoded
    return b'{"servers":%b,%b' % (orjson.dumps([{"url": server}]), encoded[1:])


class Api(flask_smorest.Api):
    """flask-smorest's document, which is made while the application serves; `errors.py` handles all errors."""

    def _register_error_handlers(self) -> None:
        """Register none."""


@dataclass
class Gathered:
    """What the document is made of when it is first asked for: at the start that would take 55 ms."""

    blueprints: Sequence[flask_smorest.Blueprint]
    encoded: bytes | None = None
    lock: Lock = dataclasses.field(default_factory=Lock)

    def describe_views(self, app: Flask) -> Api:
        """Describe all views and their schemas, as flask-smorest does when it registers a blueprint."""
        api = Api(app)
        app.cli.add_command(commands)  # instead of flask-smorest's, which knows the incomplete document
        api.register_converter(IdConverter, lambda converter: components.ID_SCHEMA)
        for blueprint in self.blueprints:
            blueprint.register_views_in_doc(api, app, api.spec, name=blueprint.name, parameters=None)
            api.spec.tag({"name": blueprint.name, "description": blueprint.description})
        return api


def init_app(app: Flask, blueprints: Sequence[flask_smorest.Blueprint]) -> None:
    """Register the resources, the document, its page and its command."""
    app.config.update(
        API_TITLE="chat-api",
        API_VERSION=VERSION,
        OPENAPI_VERSION="3.1.0",
        API_SPEC_OPTIONS={
            "info": {
                "description": components.DESCRIPTION,
                "contact": {"name": "The operator of this service"},
                "license": {"name": "MIT", "identifier": "MIT"},
            },
        },
    )
    app.extensions[EXTENSION] = Gathered(blueprints)
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    app.register_blueprint(pages)
    app.cli.add_command(commands)
    _add_page(app)


def _add_page(app: Flask) -> None:
    """Serve Swagger UI with a page of our own: it works below a path prefix, and without scripts inside the page."""
    app.register_blueprint(get_swaggerui_blueprint("/docs", "/openapi.json"))
    files, endpoint = app.view_functions["swagger_ui.show"], "swagger_ui.show"

    def show(path: str | None = None) -> Response:
        """The page and its files; the files have an entity tag already."""
        if path in (None, "", "index.html"):
            response = make_response(render_template("docs.html", root=request.script_root))
        elif path == "docs.js":
            response = send_from_directory(f"{app.root_path}/templates", path)
        else:
            response = make_response(files(path))
        response.headers["Cache-Control"] = REVALIDATE
        response.headers["Content-Security-Policy"] = PAGE_POLICY
        response.add_etag()
        return response.make_conditional(request)

    app.view_functions[endpoint] = show
    app.add_url_rule("/docs", endpoint, show)  # without a redirect


@dataclass(frozen=True)
class Operation:
    """An operation of the document, with the properties of its view that the rules ask for."""

    method: str
    content: dict[str, Any]
    is_guarded: bool
    may_act_for_others: bool  # it takes X-Act-As
    takes_key: bool  # it takes an Idempotency-Key
    ignores_query: bool

    @property
    def is_change(self) -> bool:
        """Whether it changes or deletes one object."""
        return self.method in ("patch", "put", "delete")


def document(app: Flask, gathered: Gathered) -> dict[str, Any]:
    """The document as plain values, without its servers."""
    api = gathered.describe_views(app)
    converter = api.ma_plugin.converter
    unions = _register_unions(converter)
    spec: dict[str, Any] = api.spec.to_dict()
    parts = spec["components"]
    _complete_schemas(parts["schemas"], converter)
    parts["schemas"] |= unions
    parts["schemas"]["ProblemCode"] = problem_codes.schema()
    parts["schemas"]["Problem"] = components.PROBLEM
    parts["schemas"]["CompletionProblem"]["properties"]["code"] = components.reference(
        "schemas", "ProblemCode"
    )
    parts["schemas"].pop("Error", None)
    parts["schemas"].pop("PaginationMetadata", None)
    parts["responses"] = {
        HTTPStatus(status).name: components.problem_response(status) for status in ERROR_CODES
    }
    parts["securitySchemes"] = {"bearer": components.BEARER_SCHEME}
    parts["headers"] = components.HEADERS
    parts["parameters"] = components.PARAMETERS
    spec["security"] = components.BEARER
    for operation in _operations(app, spec):
        _complete_body(operation, parts["schemas"])
        _complete_answers(operation)
        _add_parameters(operation)
        _add_errors(operation)
        add_examples(operation.content, parts["schemas"])
    return spec


def _register_unions(converter: Any) -> dict[str, Any]:
    """The schemas that stand for any of several others, by name; those others are in the document from here on."""
    found = {}
    for (kind, *_), name in list(converter.refs.items()):
        if members := getattr(kind, "one_of", ()):
            references = {
                member().fields["type"].constant: converter.resolve_nested_schema(member)
                for member in members
            }
            found[name] = {
                "description": kind.__doc__,
                "oneOf": list(references.values()),
                "discriminator": {
                    "propertyName": "type",
                    "mapping": {constant: reference["$ref"] for constant, reference in references.items()},
                },
            }
    return found


def _complete_schemas(schemas: dict[str, Any], converter: Any) -> None:
    """Complete what apispec makes of marshmallow's schemas, with what stands in their attribute `json_schema`, too."""
    for (kind, *_), name in converter.refs.items():
        schema = schemas[name]
        if issubclass(kind, Output):
            schema.pop("additionalProperties", None)
            for own_name, field in kind().fields.items():
                if isinstance(field, fields.Constant):
                    schema["properties"][own_name] = {"type": "string", "const": field.constant}
                schema["properties"][own_name].pop("readOnly", None)  # of fields.Function
            schema["required"] = [field for field in schema["properties"] if field not in kind.may_lack]
            if kind.__doc__ and kind.__doc__ != Output.__doc__:
                schema.setdefault("description", kind.__doc__)
        else:
            _describe_defaults(schema)
            _allow_null(schema)
        deepupdate(schema, getattr(kind, "json_schema", {}))


def _describe_defaults(schema: dict[str, Any]) -> None:
    """Move the defaults of a body's fields into their descriptions: generators make fields with a default required."""
    for field in schema.get("properties", {}).values():
        default = field.pop("default", None)
        description = field.get("description", "")
        if default is not None and default != "" and "efault" not in description:
            field["description"] = f"{description} Default: `{orjson.dumps(default).decode()}`.".lstrip()


def _allow_null(schema: dict[str, Any]) -> None:
    """Say of a body's optional fields that null may stand in place of leaving them out, see `web.blueprint.load`."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        kinds = field.get("type")
        if name in required or not field:
            continue
        if kinds is None:
            parts = {key: field.pop(key) for key in ("$ref", "allOf", "anyOf", "oneOf") if key in field}
            if parts:
                field["anyOf"] = [*parts.get("anyOf", [parts]), {"type": "null"}]
            continue
        if "null" not in kinds:
            field["type"] = [*([kinds] if isinstance(kinds, str) else kinds), "null"]
        if "enum" in field and None not in field["enum"]:
            field["enum"] = [*field["enum"], None]


def _operations(app: Flask, spec: dict[str, Any]) -> Iterator[Operation]:
    """All that is documented; each gets its view's name as `operationId`."""
    endpoints = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower()): rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    for path, item in spec["paths"].items():
        for parameter in item.get("parameters", ()):  # those in the path
            parameter["example"] = example_id(parameter["name"])
        for method in METHODS:
            if method in item:
                yield _operation(app, endpoints[path, method], method, item[method])


def _operation(app: Flask, endpoint: str, method: str, content: dict[str, Any]) -> Operation:
    blueprint, _, content["operationId"] = endpoint.rpartition(".")
    hooks = app.before_request_funcs.get(blueprint, ())
    may_act_for_others = guard.require_caller in hooks
    return Operation(
        method,
        content,
        is_guarded=may_act_for_others or guard.require_account in hooks,
        may_act_for_others=may_act_for_others,
        takes_key=takes_idempotency_key(app.view_functions[endpoint]),
        ignores_query=app.blueprints[blueprint].ignores_query,  # type: ignore[attr-defined]
    )


def _complete_body(operation: Operation, schemas: dict[str, Any]) -> None:
    """A body is required, except by its view; that of a PATCH names one field at least."""
    if "requestBody" not in operation.content:
        return
    operation.content["requestBody"].setdefault("required", True)
    if operation.method == "patch":
        reference = operation.content["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schemas[reference.rsplit("/", 1)[-1]]["minProperties"] = 1


def _complete_answers(operation: Operation) -> None:
    """Add the headers of successful answers, and 304 where there is an ETag to ask for."""
    responses = operation.content["responses"]
    for unused in ("default", "422"):  # flask-smorest's own
        responses.pop(unused, None)
    for status, response in responses.items():
        if "$ref" in response:
            continue
        names = ["X-Request-ID"]
        if status in ("201", "202"):
            names.append("Location")
        if operation.takes_key and status in ("200", "201", "202"):
            names.append("Idempotency-Replayed")
        if status == "200" and _has_pages(operation):
            names.append("Link")
        if status == "200" and (operation.method == "patch" or _is_one_object(operation)):
            names.append("ETag")
        headers = response.setdefault("headers", {})
        headers |= {name: components.reference("headers", name) for name in names}
    if _is_one_object(operation):
        responses["304"] = {"description": "The object still has the ETag that If-None-Match names."}


def _add_parameters(operation: Operation) -> None:
    parameters = operation.content.setdefault("parameters", [])
    for parameter in parameters:
        if parameter.get("schema", {}).get("type") == "object":  # in a query like metadata[topic]=travel
            parameter.update(style="deepObject", explode=True)
    rules = {
        "IdempotencyKey": operation.takes_key,
        "IfMatch": operation.is_change,
        "IfNoneExists": operation.method == "put",
        "ActAs": operation.may_act_for_others,
        "IfNoneMatch": _is_one_object(operation),
        "RequestId": True,
    }
    parameters += [components.reference("parameters", name) for name, holds in rules.items() if holds]


def _add_errors(operation: Operation) -> None:
    """Add the errors of this kind of operation, each as a reference to a problem."""
    errors = {500, 503}
    if not operation.ignores_query:
        errors |= {400, 429}
    if operation.is_guarded:
        errors |= {401, 403, 404}
    elif "security" not in operation.content:
        operation.content["security"] = []
    if "requestBody" in operation.content:
        errors |= set(BODY_ERRORS)
    if operation.takes_key:
        errors |= {409, 422}
    if operation.is_change:
        errors.add(412)
    for status in sorted(errors):
        operation.content["responses"][str(status)] = components.problem_reference(status)


def _has_pages(operation: Operation) -> bool:
    return any(parameter.get("name") == "limit" for parameter in operation.content.get("parameters", ()))


def _is_one_object(operation: Operation) -> bool:
    """Whether it gets one of the caller's objects: that has an ETag."""
    if operation.method != "get" or not operation.is_guarded:
        return False
    media = operation.content["responses"].get("200", {}).get("content", {}).get("application/json", {})
    return "$ref" in media.get("schema", {}) and not _has_pages(operation)
