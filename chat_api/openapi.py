"""The OpenAPI document and its page: what flask-smorest gathers from the views, completed by the rules that hold
everywhere (contract: every error is a problem, every creating POST takes an Idempotency-Key, ...)."""

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

import flask_smorest
from flask import Blueprint, Flask, Response, current_app
from flask_swagger_ui import get_swaggerui_blueprint

from .auth import guard
from .errors import ERROR_CODES
from .extensions import api
from .web.fields import UUID_PATTERN
from .web.responses import REVALIDATE, json_response
from .web.url_converters import IdConverter

VERSION = "0.1.0"
EXAMPLE_ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"
EXTENSION = "chat_api.openapi"
BODY_ERRORS = (400, 413, 415)
CALLS_A_PROVIDER = ("create_completion", "list_models")
DESCRIPTION = """The headless back end of LLM chat applications: accounts, conversations, messages, attachments, \
providers and keys, and the providers' replies, streamed.

Every endpoint below `/chat` needs `Authorization: Bearer <access token>`. Errors are `application/problem+json` \
(RFC 9457). Somebody else's object does not exist for you: 404."""

pages = Blueprint("documentation", __name__)


@pages.route("/openapi.json", methods=["GET"])
def get_openapi() -> Response:
    """The document, made once for each process."""
    known = current_app.extensions
    if EXTENSION not in known:
        known[EXTENSION] = document(current_app)
    return json_response(known[EXTENSION], headers={"Cache-Control": REVALIDATE})


def init_app(app: Flask, blueprints: Iterable[flask_smorest.Blueprint]) -> None:
    """Register the resources, the document and its page."""
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
    api.register_converter(IdConverter, lambda converter: _ID_SCHEMA)
    for blueprint in blueprints:
        api.register_blueprint(blueprint)
    app.register_blueprint(pages)
    # the page asks no other host (validator.swagger.io would be told the document's address), and does not repeat
    # the Host header of whoever asked for it
    page = {
        "app_name": "chat-api",
        "validatorUrl": None,
        "oauth2RedirectUrl": "/docs/oauth2-redirect.html",
    }
    app.register_blueprint(get_swaggerui_blueprint("/docs", "/openapi.json", config=page))
    app.add_url_rule("/docs", "swagger_ui.show", app.view_functions["swagger_ui.show"])  # without a redirect


_ID_SCHEMA = {"type": "string", "format": "uuid", "pattern": UUID_PATTERN, "example": EXAMPLE_ID}
_GUARDS = (guard.require_caller, guard.require_account)


def document(app: Flask) -> dict[str, Any]:
    """The whole document as plain values."""
    spec = api.spec.to_dict()
    components = spec["components"]
    components["schemas"]["Problem"] = _PROBLEM
    components["schemas"].pop("Error", None)
    components["schemas"].pop("PaginationMetadata", None)
    components["responses"] = {HTTPStatus(status).name: _problem_response(status) for status in ERROR_CODES}
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    components["headers"] = _HEADERS
    for endpoint, path, method, operation in _operations(app, spec):
        _complete(app, endpoint, path, method, operation)
        if method == "patch":
            _body_schema(operation, components["schemas"])["minProperties"] = 1
        _add_links(operation)
        _add_examples(operation, components["schemas"])
    return spec


def _body_schema(operation: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    reference: str = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return schemas[reference.rsplit("/", 1)[-1]]


def _operations(app: Flask, spec: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Endpoint, path, method and operation of all that is documented."""
    endpoints = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method): rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            if method in ("get", "post", "put", "patch", "delete"):
                yield endpoints[path, method.upper()], path, method, operation


def _complete(app: Flask, endpoint: str, path: str, method: str, operation: dict[str, Any]) -> None:
    """Add what the rules that hold everywhere say about an operation."""
    blueprint, _, name = endpoint.rpartition(".")
    operation["operationId"] = name
    responses = operation["responses"]
    responses.pop("default", None)
    responses.pop("422", None)
    guarded = any(hook in _GUARDS for hook in app.before_request_funcs.get(blueprint, ()))
    creates = method == "post" and "201" in responses
    parameters = operation.setdefault("parameters", [])
    errors = {400, 429, 500, 503} if path.startswith(("/chat", "/auth")) else {500, 503}
    if guarded or name in ("refresh", "get_metrics"):
        operation["security"] = [{"bearer": []}]
        errors |= {401, 403}
    if name == "log_in":
        errors |= {401, 403}
    if "requestBody" in operation:
        errors |= set(BODY_ERRORS)
        operation["requestBody"]["required"] = True
    if "{" in path or name in ("create_message", "create_attachment", "get_metrics") or guarded:
        errors.add(404)
    if name in CALLS_A_PROVIDER:
        errors |= {502, 504}
    if creates:
        errors |= {409, 422}
        parameters.append(_IDEMPOTENCY_KEY)
        for success in {"200", "201"} & set(responses):
            responses[success].setdefault("headers", {})["Idempotency-Replayed"] = {
                "$ref": "#/components/headers/Idempotency-Replayed"
            }
    if name == "get_events":
        parameters.append(_LAST_EVENT_ID)
    if method in ("patch", "put", "delete"):
        errors.add(412)
        parameters.append(_IF_MATCH)
    if method == "put":
        errors.add(409)
        parameters.append(_IF_NONE)
    if method == "patch":
        responses["200"].setdefault("headers", {})["ETag"] = {"$ref": "#/components/headers/ETag"}
    if path.startswith("/chat"):
        parameters.append(_ACT_AS)
    if method == "get" and "200" in responses:
        _complete_get(operation, responses, guarded=guarded)
    parameters.append(_REQUEST_ID)
    for status in sorted(errors):
        responses[str(status)] = {"$ref": f"#/components/responses/{HTTPStatus(status).name}"}
    for status, response in responses.items():
        if "$ref" not in response and status != "304":
            response.setdefault("headers", {})["X-Request-ID"] = {"$ref": "#/components/headers/X-Request-ID"}


def _complete_get(operation: dict[str, Any], responses: dict[str, Any], *, guarded: bool) -> None:
    """A list with pages has Link headers; a single object has an ETag and answers If-None-Match."""
    has_pages = any(parameter.get("name") == "limit" for parameter in operation["parameters"])
    headers = responses["200"].setdefault("headers", {})
    if has_pages:
        headers["Link"] = {"$ref": "#/components/headers/Link"}
    elif guarded and "$ref" in responses["200"]["content"].get("application/json", {}).get("schema", {}):
        headers["ETag"] = {"$ref": "#/components/headers/ETag"}
        operation["parameters"].append(_IF_NONE_MATCH)
        responses["304"] = {"description": "Not changed since the version that If-None-Match names."}


def _add_links(operation: dict[str, Any]) -> None:
    """Say which operations go on from the answer's ids."""
    for status, response in operation["responses"].items():
        if links := _LINKS.get((operation["operationId"], status)):
            response["links"] = links


def _add_examples(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Compose an example for the body and the answer from those of the fields."""
    contents = [operation.get("requestBody", {}).get("content", {})]
    contents += [response.get("content", {}) for response in operation["responses"].values()]
    for content in contents:
        for media in content.values():
            if "schema" in media and "example" not in media:
                media["example"] = _example(media["schema"], schemas)


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    if "example" in schema:
        return schema["example"]
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rsplit("/", 1)[-1]], schemas)
    for choices in ("allOf", "anyOf"):
        if choices in schema:
            return _example(schema[choices][0], schemas)
    if schema.get("type") == "array":
        return [_example(schema["items"], schemas)]
    if "properties" in schema:
        required = schema.get("required", ())
        return {
            name: _example(field, schemas)
            for name, field in schema["properties"].items()
            if name in required or _is_usual(field)
        }
    return EXAMPLE_ID if schema.get("format") == "uuid" else "text"


def _is_usual(field: dict[str, Any]) -> bool:
    """Whether an optional field is shown in examples: it has one, or consists of others that have."""
    return not {"example", "$ref", "anyOf", "allOf"}.isdisjoint(field)


def _link(operation_id: str, **parameters: str) -> dict[str, Any]:
    """A link that puts a field of the answer into the path of another operation."""
    return {"operationId": operation_id, "parameters": _from_answer(parameters)}


def _body_link(operation_id: str, **fields: str) -> dict[str, Any]:
    """A link that puts a field of the answer into the body of another operation."""
    return {"operationId": operation_id, "requestBody": _from_answer(fields)}


def _from_answer(fields: dict[str, str]) -> dict[str, str]:
    return {name: f"$response.body#/{field}" for name, field in fields.items()}


_LINKS = {
    ("get_me", "200"): {
        "CreateConversation": _body_link("create_conversation", user_id="id"),
    },
    ("create_token", "201"): {
        "DeleteToken": _link("delete_token", token_id="id"),  # noqa: S106 - a name, no secret
    },
    ("create_conversation", "201"): {
        "GetConversation": _link("get_conversation", conversation_id="id"),
        "UpdateConversation": _link("update_conversation", conversation_id="id"),
        "DeleteConversation": _link("delete_conversation", conversation_id="id"),
        "CreateMessage": _body_link("create_message", conversation_id="id"),
        "ListMessages": _link("list_messages", conversation_id="id"),
        "CreateCompletion": _body_link("create_completion", conversation_id="id"),
    },
    ("create_message", "201"): {
        "GetConversation": _link("get_conversation", conversation_id="conversation_id"),
        "ListMessages": _link("list_messages", conversation_id="conversation_id"),
        "GetMessage": _link("get_message", message_id="id"),
        "DeleteMessage": _link("delete_message", message_id="id"),
        "CreateAnswer": _body_link("create_message", conversation_id="conversation_id", parent_id="id"),
        "CreateAttachment": _body_link("create_attachment", message_id="id"),
        "ListAttachments": _link("list_attachments", message_id="id"),
    },
    ("create_attachment", "201"): {
        "ListAttachments": _link("list_attachments", message_id="message_id"),
    },
    ("create_provider", "201"): {
        "GetProvider": _link("get_provider", provider_id="id"),
        "CreateConfig": _body_link("create_config", user_id="owner_id", provider_id="id"),
        "ListModels": _link("list_models", provider_id="id"),
        "UpdateProvider": _link("update_provider", provider_id="id"),
        "DeleteProvider": _link("delete_provider", provider_id="id"),
    },
    ("create_config", "201"): {
        "GetConfig": _link("get_config", user_id="user_id", provider_id="provider_id"),
        "ReplaceConfig": _link("replace_config", user_id="user_id", provider_id="provider_id"),
        "DeleteConfig": _link("delete_config", user_id="user_id", provider_id="provider_id"),
        "GetProvider": _link("get_provider", provider_id="provider_id"),
        "ListModels": _link("list_models", provider_id="provider_id"),
        "CreateCompletion": _body_link("create_completion", provider_id="provider_id"),
    },
    ("replace_config", "201"): {
        "GetConfig": _link("get_config", user_id="user_id", provider_id="provider_id"),
        "DeleteConfig": _link("delete_config", user_id="user_id", provider_id="provider_id"),
    },
    ("create_completion", "201"): {
        "GetCompletion": _link("get_completion", completion_id="id"),
        "GetEvents": _link("get_events", completion_id="id"),
        "CancelCompletion": _link("cancel_completion", completion_id="id"),
        "ListCompletions": _link("list_completions", conversation_id="conversation_id"),
    },
}


def _problem_response(status: int) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    example = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": ERROR_CODES[status],
        "detail": f"{title}: what went wrong, for a person to read.",
        "request_id": "6f1c2d3e4b5a69788796a5b4c3d2e1f0",
    }
    if status == 400:
        example["errors"] = {"title": ["Missing data for required field."]}
    response: dict[str, Any] = {
        "description": title,
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": example,
            }
        },
        "headers": {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}},
    }
    if status == 401:
        response["headers"]["WWW-Authenticate"] = {"$ref": "#/components/headers/WWW-Authenticate"}
    if status in (409, 429, 503):  # 409: where the same request is still being answered
        response["headers"]["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    return response


_PROBLEM = {
    "type": "object",
    "description": "A problem as of RFC 9457.",
    "required": ["type", "title", "status", "code", "detail", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "What happened, for programs."},
        "detail": {"type": "string", "description": "What happened, for people."},
        "request_id": {"type": ["string", "null"], "description": "Name it when you ask the operator."},
        "errors": {
            "type": "object",
            "description": "For invalid input: field name to messages.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}


def _text_header(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example}


_HEADERS = {
    "X-Request-ID": _text_header(
        "The request's id, from the request if it sent a sane one.", "6f1c2d3e4b5a6978"
    ),
    "ETag": _text_header("The version of the object.", '"9a0364b9e99bb480dd25e1f0"'),
    "Link": _text_header("The next and previous page (RFC 8288).", '</chat/…?limit=50&after=50>; rel="next"'),
    "Idempotency-Replayed": _text_header("`true` on an answer that was given before.", "true"),
    "WWW-Authenticate": _text_header("How to authenticate (RFC 6750).", "Bearer"),
    "Retry-After": _text_header("Seconds to wait before the next try.", "1"),
}


def _header_parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {
        "in": "header",
        "name": name,
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
    }


_IDEMPOTENCY_KEY = _header_parameter(
    "Idempotency-Key",
    "The same key and body have one effect and get one answer, for 24 hours.",
    pattern="^[ -~]{1,255}$",
    minLength=1,
    maxLength=255,
)
_LAST_EVENT_ID = _header_parameter(
    "Last-Event-ID",
    "Only events behind the one with this id; `-1` or nothing for all.",
    pattern="^(-1|[0-9]{0,16})$",
    example="17",
)
_ACT_AS = _header_parameter(
    "X-Act-As", "For admins and service accounts: the id of the user to act for.", format="uuid"
)
_REQUEST_ID = _header_parameter(
    "X-Request-ID", "An id of your own for this request; one is made where it is unfit for a log."
)
_IF_MATCH = _header_parameter("If-Match", "Change it only if this is its current ETag.")
_IF_NONE = _header_parameter("If-None-Match", "With `*`: make it only if there is none.")
_IF_NONE_MATCH = _header_parameter("If-None-Match", "Answer 304 if this is still its ETag.")
