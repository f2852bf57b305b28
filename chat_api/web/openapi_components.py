"""What the operations of the OpenAPI document have in common: problems, headers and header parameters."""

from http import HTTPStatus
from typing import Any

from ..errors import ERROR_CODES
from .fields import UUID_PATTERN

DESCRIPTION = """The headless back end of LLM chat applications: accounts, conversations, messages, attachments, \
LLM providers and API keys, and streamed completions.

Every endpoint below `/chat` needs `Authorization: Bearer <access token>`: \
register with `POST /auth/register`, get an access token with `POST /auth/login` or, for a script, a personal access \
token with `POST /auth/tokens`, and enter it under “Authorize”. Errors are `application/problem+json` \
(RFC 9457). Another user's objects return 404, exactly like an id that does not exist. Unknown fields and query \
parameters return 400. Later versions may add fields to responses; the fields that are listed as required stay."""
EXAMPLE_ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"
ID_SCHEMA = {"type": "string", "format": "uuid", "pattern": UUID_PATTERN}
BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
BEARER_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "An access token of `POST /auth/login`, or a personal access token of `POST /auth/tokens`.",
}


def reference(kind: str, name: str) -> dict[str, str]:
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def problem_reference(status: int) -> dict[str, str]:
    """A reference to the response of an error status."""
    return reference("responses", HTTPStatus(status).name)


def problem_response(status: int) -> dict[str, Any]:
    """The response of an error status."""
    title = HTTPStatus(status).phrase
    example = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": ERROR_CODES[status],
        "detail": f"{title}: an explanation for people.",
        "request_id": "6f1c2d3e4b5a69788796a5b4c3d2e1f0",
    }
    if status == 400:
        example["errors"] = {"title": ["Missing data for required field."]}
    headers = ["X-Request-ID"]
    if status == 401:
        headers.append("WWW-Authenticate")
    # 409: where the first request with the same Idempotency-Key is still running; 502: where the provider said so
    if status in (409, 429, 502, 503):
        headers.append("Retry-After")
    content = {"schema": reference("schemas", "Problem"), "example": example}
    return {
        "description": title,
        "content": {"application/problem+json": content},
        "headers": {name: reference("headers", name) for name in headers},
    }


PROBLEM = {
    "type": "object",
    "description": "A problem object (RFC 9457).",
    "required": ["type", "title", "status", "code", "detail", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": reference("schemas", "ProblemCode"),
        "detail": {"type": "string", "description": "What happened, for people."},
        "request_id": {
            "type": ["string", "null"],
            "description": "The request's id: quote it when you contact the operator.",
        },
        "retry_after_s": {
            "type": "integer",
            "description": "In the problem of a completion: what `Retry-After` says, in seconds.",
        },
        "errors": {
            "type": "object",
            "description": "For invalid input: the messages for each invalid field.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}


def text_header(description: str, example: str) -> dict[str, Any]:
    """A response header."""
    return {"description": description, "schema": {"type": "string"}, "example": example}


HEADERS = {
    "X-Request-ID": text_header(
        "The request's id: the client's own if it sent a well-formed one, otherwise generated.",
        "6f1c2d3e4b5a6978",
    ),
    "ETag": text_header("The version of the object.", '"9a0364b9e99bb480dd25e1f0"'),
    "Link": text_header("The next and previous page (RFC 8288).", '</chat/…?limit=50&after=50>; rel="next"'),
    "Location": text_header("The URL of the created object.", f"/chat/conversations/{EXAMPLE_ID}"),
    "Idempotency-Replayed": text_header("`true` on a repeated answer to the same Idempotency-Key.", "true"),
    "WWW-Authenticate": text_header("How to authenticate (RFC 6750).", "Bearer"),
    "Retry-After": text_header("Seconds to wait before retrying.", "1"),
}


def header_parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """An optional request header."""
    return {
        "in": "header",
        "name": name,
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
    }


PARAMETERS = {
    "IdempotencyKey": header_parameter(
        "Idempotency-Key",
        "Makes retries safe: for 24 hours, a repeated request with the same key and body has no further effect and "
        "gets the first answer.",
        pattern="^[ -~]{1,255}$",
        minLength=1,
        maxLength=255,
    ),
    # no format: generators make an object of a UUID, and not all of them can send one in a header
    "ActAs": header_parameter(
        "X-Act-As", "For admins and service accounts: the id of the user to act for.", pattern=UUID_PATTERN
    ),
    "RequestId": header_parameter(
        "X-Request-ID",
        "The client's own id for this request; replaced by a generated one if it is malformed.",
    ),
    "IfMatch": header_parameter("If-Match", "Apply the change only if the object's ETag is still this one."),
    "IfNoneExists": header_parameter("If-None-Match", "`*`: create the object only if there is none."),
    "IfNoneMatch": header_parameter("If-None-Match", "Answer 304 if the object's ETag is still this one."),
}
