"""The OpenAPI document and its page: what flask-smorest gathers from the views, completed by the rules that hold for
every endpoint of a kind (every error is a problem, every creating POST takes an Idempotency-Key, …).

What holds for one endpoint alone is documented at its view, by the decorators of `web.blueprint`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import click
import flask_smorest
import orjson
from flask import Blueprint, Flask, current_app, make_response, redirect, request
from flask.cli import AppGroup
from flask_smorest.utils import deepupdate
from flask_swagger_ui import get_swaggerui_blueprint
from werkzeug.wrappers import Response

from . import problem_codes
from .auth import guard
from .errors import ERROR_CODES
from .extensions import api
from .idempotency import takes_idempotency_key
from .web import openapi_components as components
from .web.openapi_examples import add_examples
from .web.responses import REVALIDATE, raw_entity_response
from .web.url_converters import IdConverter

VERSION = "0.1.0"
EXTENSION = "chat_api.openapi"
# the page runs its own scripts and styles, some of which stand in it, and calls this service only
PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
BODY_ERRORS = (400, 408, 413, 415)
METHODS = ("get", "post", "put", "patch", "delete")
DESCRIPTION = """The headless back end of LLM chat applications: accounts, conversations, messages, attachments, \
LLM providers and API keys, and streamed completions.

Every endpoint below `/chat` needs `Authorization: Bearer <access token>`. Errors are `application/problem+json` \
(RFC 9457). Another user's objects return 404, exactly like an id that does not exist. Unknown fields and query \
parameters return 400."""

pages = Blueprint("documentation", __name__)
commands = AppGroup("openapi", help="The OpenAPI document.")


@pages.route("/", methods=["GET"])
def get_root() -> Response:
    """The address that people try first: lead them to the page about all others."""
    return redirect(f"{request.script_root}/docs")


@pages.route("/openapi.json", methods=["GET"])
def get_openapi() -> Response:
    """The document."""
    return raw_entity_response(_encoded(current_app))


@commands.command("print")
def print_document() -> None:
    """Print the document that is served at /openapi.json."""
    click.echo(_encoded(current_app))


def _encoded(app: Flask) -> bytes:
    """The document as JSON, made once for each process."""
    if EXTENSION not in app.extensions:
        app.extensions[EXTENSION] = orjson.dumps(document(app))
    encoded: bytes = app.extensions[EXTENSION]
    return encoded


def init_app(app: Flask, blueprints: Iterable[flask_smorest.Blueprint]) -> None:
    """Register the resources, the document, its page and its command."""
    app.config.update(
        API_TITLE="chat-api",
        API_VERSION=VERSION,
        OPENAPI_VERSION="3.1.0",
        API_SPEC_OPTIONS={
            "info": {"description": DESCRIPTION},
            "servers": [{"url": "/"}],
        },
    )
    api.init_app(app)
    api.register_converter(IdConverter, lambda converter: components.ID_SCHEMA)
    for blueprint in blueprints:
        api.register_blueprint(blueprint)
    app.register_blueprint(pages)
    app.cli.add_command(commands)  # instead of flask-smorest's, which knows the incomplete document
    _add_page(app)


def _add_page(app: Flask) -> None:
    # the page contacts no other host (by default validator.swagger.io would get the document's address), and does not
    # repeat the request's Host header
    config = {
        "app_name": "chat-api",
        "validatorUrl": None,
        "oauth2RedirectUrl": "/docs/oauth2-redirect.html",
    }
    app.register_blueprint(get_swaggerui_blueprint("/docs", "/openapi.json", config=config))
    page, endpoint = app.view_functions["swagger_ui.show"], "swagger_ui.show"

    def show(path: str | None = None) -> Response:
        """The page and its files; the files have an entity tag already."""
        response = make_response(page(path))
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


def document(app: Flask) -> dict[str, Any]:
    """The whole document as plain values."""
    spec = api.spec.to_dict()
    parts = spec["components"]
    _complete_schemas(parts["schemas"])
    parts["schemas"]["Problem"] = components.problem_schema(problem_codes.schema())
    parts["schemas"].pop("Error", None)
    parts["schemas"].pop("PaginationMetadata", None)
    parts["responses"] = {
        HTTPStatus(status).name: components.problem_response(status) for status in ERROR_CODES
    }
    parts["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    parts["headers"] = components.HEADERS
    for operation in _operations(app, spec):
        _complete_body(operation, parts["schemas"])
        _complete_answers(operation)
        _add_parameters(operation)
        _add_errors(operation)
        add_examples(operation.content, parts["schemas"])
    return spec


def _complete_schemas(schemas: dict[str, Any]) -> None:
    """Add what apispec has no words for: it stands in a marshmallow schema's attribute `json_schema`."""
    for (kind, *_), name in api.ma_plugin.converter.refs.items():
        deepupdate(schemas[name], getattr(kind, "json_schema", {}))


def _operations(app: Flask, spec: dict[str, Any]) -> Iterator[Operation]:
    """All that is documented; each gets its view's name as `operationId`."""
    endpoints = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower()): rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    for path, item in spec["paths"].items():
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
    if operation.takes_key:
        parameters.append(components.IDEMPOTENCY_KEY)
    if operation.is_change:
        parameters.append(components.IF_MATCH)
    if operation.method == "put":
        parameters.append(components.IF_NONE)
    if operation.may_act_for_others:
        parameters.append(components.ACT_AS)
    if _is_one_object(operation):
        parameters.append(components.IF_NONE_MATCH)
    parameters.append(components.REQUEST_ID)


def _add_errors(operation: Operation) -> None:
    """Add the errors of this kind of operation, each as a reference to a problem."""
    errors = {500, 503}
    if not operation.ignores_query:
        errors |= {400, 429}
    if operation.is_guarded:
        operation.content["security"] = components.BEARER
        errors |= {401, 403, 404}
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
