"""The error tree, and the only code that turns an exception into a response.

ApiError                       what goes wrong as a noun; services raise these
    InvalidInput          400  the caller can fix it: `errors` names each field
    Unauthorized          401  no valid token
    Forbidden             403  a valid token, but not for this
    NotFound              404  it does not exist or belongs to somebody else: the same answer
        NoText            404  the file has no text, or none that could be extracted
    RequestTimeout        408  the client took too long to send its request
    Conflict              409  it conflicts with the current state
        StillRunning      409  the first request with this Idempotency-Key is still in progress
        TextNotReady      409  the text of the file is being extracted
        KeyUnreadable     409  no key in ENCRYPTION_KEYS opens the stored API key
        ResponseUnreadable 409 no key in ENCRYPTION_KEYS opens the first response to this Idempotency-Key
        ResponseGone      409  what the first request with this Idempotency-Key created was deleted since
        QuotaExceeded     409  the user has stored as much as every user may
        AttachmentUnreadable 409 an attachment that is to be answered has lost its bytes
    PreconditionFailed    412  If-Match names a version that is no longer current
    PayloadTooLarge       413  larger than the limit
    NotSentAsJson         415  Content-Type is not application/json
    RangeNotSatisfiable   416  Range names no byte of what is there
    KeyReused             422  this Idempotency-Key was used with another body or role
    AttachmentRefused     422  an attachment can't be sent to the model that is to answer it
        AttachmentTooLarge 422 it is larger than a completion may have
    TooManyRequests       429  throttled; `retry_after_s` says for how long
    ProviderFailed        502  an LLM provider gave no reply (429 if it throttles, 504 if it is silent)
        ProviderTimedOut  504  names the latter in the OpenAPI document
    Unavailable           503  the database is unavailable or busy; nothing was stored, unless it was lost while it
                               committed, which is why a client that must not repeat itself sends an Idempotency-Key
        SchemaMismatch    503  the database is not upgraded to the schema of this version

All of them, werkzeug's own and unexpected ones become application/problem+json (RFC 9457). What is done after a
response was made can't change it any more, see `BestEffort`.
"""

import logging
import re
import sqlite3
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flask
import orjson
from flask import Flask, Response, g, request
from sqlalchemy import exc as sqlalchemy_errors
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.http import HTTP_STATUS_CODES

log = logging.getLogger(__name__)

ENVELOPES = "chat_api.errors.envelopes"  # of the application's extensions


class Said(NamedTuple):
    """An error as a client gets it: the body is JSON, or a text as it is."""

    status: int
    body: dict[str, Any] | str
    headers: dict[str, str]


Envelope = Callable[[int, str, str, Mapping[str, Any]], Said]
"""How an error with this status, code, detail and further members is said."""

RETRY_AFTER_S = (
    1  # the Retry-After of every condition that passes soon: database away, server full or shutting down
)


class ApiError(Exception):
    """Base class of all errors that are reported to a client."""

    status = 500
    code = "internal_error"

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra: dict[str, Any] = {}


class InvalidInput(ApiError):
    status, code = 400, "invalid_input"

    def __init__(self, errors: Mapping[str, list[str]] | None = None, detail: str | None = None) -> None:
        super().__init__(detail or "The request is invalid; see `errors`.")
        if errors:
            self.extra["errors"] = dict(errors)


class Unauthorized(ApiError):
    """RFC 6750 section 3: `error` is included only if a token was sent."""

    status, code = 401, "unauthorized"

    def __init__(self, detail: str, *, error: str | None = None) -> None:
        challenge = f'Bearer error="{error}"' if error else "Bearer"
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class Forbidden(ApiError):
    status, code = 403, "forbidden"


class NotFound(ApiError):
    """Names the kind of object, never the id: another user's row and a missing one get the same response."""

    status, code = 404, "not_found"

    def __init__(self, kind: str) -> None:
        super().__init__(f"There is no such {kind}.")


class NoText(NotFound):
    """The attachment is there, its text is not."""

    code = "no_text"

    def __init__(self, why: str) -> None:
        super().__init__("text")
        self.detail = why


class RequestTimeout(ApiError):
    status, code = 408, "request_timeout"

    def __init__(self) -> None:
        super().__init__(
            "The body arrived too slowly; send it again over a faster connection.",
            headers={"Connection": "close"},
        )


class Conflict(ApiError):
    status, code = 409, "conflict"


class StillRunning(Conflict):
    code = "still_running"

    def __init__(self) -> None:
        super().__init__(
            "The first request with this Idempotency-Key is still in progress.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )


class TextNotReady(Conflict):
    code = "text_not_ready"

    def __init__(self) -> None:
        super().__init__(
            "The text of this file is still being extracted; retry.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )


class KeyUnreadable(Conflict):
    """The operator has lost or changed ENCRYPTION_KEYS; only the user has the API key."""

    code = "key_unreadable"

    def __init__(
        self,
        detail: str = "The server can't decrypt the stored API key for this provider any more; store the key again.",
    ) -> None:
        super().__init__(detail)


class ResponseUnreadable(Conflict):
    """Its effect is stored: treated as a new request it would be done twice."""

    code = "response_unreadable"

    def __init__(self, location: str | None) -> None:
        super().__init__(
            "The first request with this Idempotency-Key succeeded, but its response can't be decrypted any "
            "more. Do not send it again: get the created object, at `Location` if that is given.",
            headers={"Location": location} if location else None,
        )


class ResponseGone(Conflict):
    """Its effect was stored, and deleted since, with what is needed to repeat the response."""

    code = "response_gone"

    def __init__(self) -> None:
        super().__init__(
            "The first request with this Idempotency-Key succeeded, but the object that it created has been "
            "deleted since."
        )


class QuotaExceeded(Conflict):
    """The user has stored as much as every user may."""

    code = "quota_exceeded"

    def __init__(self, detail: str, *, quota: str, limit: int) -> None:
        super().__init__(detail)
        self.extra |= {"quota": quota, "limit": limit}


class AttachmentUnreadable(Conflict):
    """The bytes of an attachment are not in the storage: only who has the file can bring them back."""

    code = "attachment_unreadable"

    def __init__(self, detail: str, *, attachment_id: str, reason: str) -> None:
        super().__init__(detail)
        self.extra |= {"attachment_id": attachment_id, "reason": reason}


class PreconditionFailed(ApiError):
    status, code = 412, "precondition_failed"

    def __init__(self) -> None:
        super().__init__("The object has changed since you read it; get it again.")


class PayloadTooLarge(ApiError):
    status, code = 413, "payload_too_large"


class NotSentAsJson(ApiError):
    status, code = 415, "unsupported_media_type"

    def __init__(self) -> None:
        super().__init__(
            "Send the body as JSON in UTF-8, with Content-Type: application/json and without a Content-Encoding."
        )


class RangeNotSatisfiable(ApiError):
    """RFC 9110 section 15.5.17."""

    status, code = 416, "requested_range_not_satisfiable"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"The range has no byte of the {size_bytes} bytes that are there.",
            headers={"Content-Range": f"bytes */{size_bytes}", "Accept-Ranges": "bytes"},
        )


class KeyReused(ApiError):
    status, code = 422, "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used with another body or in another role; use a new key.")


class AttachmentRefused(ApiError):
    """An attachment of the message that is to be answered can't be sent to the model; `reason` says why."""

    status, code = 422, "attachment_refused"

    def __init__(self, detail: str, *, attachment_id: str, reason: str) -> None:
        super().__init__(detail)
        self.extra |= {"attachment_id": attachment_id, "reason": reason}


class AttachmentTooLarge(AttachmentRefused):
    """It is larger than the files of a completion may be together."""

    code = "attachment_too_large"


class TooManyRequests(ApiError):
    status, code = 429, "too_many_requests"

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_s)})


class ProviderFailed(ApiError):
    """An LLM provider gave no reply. Status and code come from the problem."""

    status, code = 502, "provider_failed"

    def __init__(self, problem: Mapping[str, Any], **extra: Any) -> None:
        retry_after_s = problem.get("retry_after_s")
        super().__init__(
            problem["detail"], headers={"Retry-After": str(retry_after_s)} if retry_after_s else None
        )
        self.status, self.code = problem["status"], problem["code"]
        self.extra = extra


class ProviderTimedOut(ProviderFailed):
    """Only for the OpenAPI document: a ProviderFailed whose provider was silent for too long."""

    status, code = 504, "provider_timeout"


class Unavailable(ApiError):
    status, code = 503, "unavailable"

    def __init__(self, detail: str = "The database is unavailable or busy; retry.") -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_S)})


class SchemaMismatch(Unavailable):
    """The database lacks tables or columns that this version needs."""

    def __init__(self) -> None:
        super().__init__(
            "The database's schema is older than this version of chat-api needs: run `flask db upgrade`."
        )


# every error status that a route may respond with, and its most frequent code
ERROR_CODES = {
    kind.status: kind.code
    for kind in (InvalidInput, Unauthorized, Forbidden, NotFound, RequestTimeout, Conflict, PreconditionFailed,
                 PayloadTooLarge, NotSentAsJson, RangeNotSatisfiable, KeyReused, TooManyRequests, ApiError,
                 ProviderFailed, Unavailable, ProviderTimedOut)
}  # fmt: skip


def init_app(app: Flask) -> None:
    """Register the handlers: one for each of the four origins of an error."""
    app.register_error_handler(ApiError, _respond_to_api_error)
    app.register_error_handler(HTTPException, _respond_to_http_exception)
    for kind in database_errors():  # connecting raises the drivers' own, which SQLAlchemy does not wrap
        app.register_error_handler(kind, _respond_to_database_error)
    app.register_error_handler(Exception, _respond_to_unexpected)


def problem_body(status: int, code: str, detail: str, **extra: Any) -> dict[str, Any]:
    """A problem object. `type` is about:blank, so `title` is the status phrase (RFC 9457 section 4.2.1)."""
    title = HTTP_STATUS_CODES.get(status, "Error")
    return {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail, **extra}


def add_envelope(app: Flask, prefix: str, envelope: Envelope) -> None:
    """Let errors below a path be said in another way: of a dialect whose clients know no problems."""
    app.extensions.setdefault(ENVELOPES, {})[prefix] = envelope


def _in_envelope(
    envelope: Envelope,
    status: int,
    code: str,
    detail: str,
    extra: Mapping[str, Any],
    headers: Mapping[str, str],
) -> Response:
    status, body, more = envelope(status, code, detail, extra)
    response = flask.current_app.response_class(
        body if isinstance(body, str) else orjson.dumps(body),
        status=status,
        mimetype="text/plain" if isinstance(body, str) else "application/json",
    )
    response.headers.update(headers)
    response.headers.update(more)
    return response


def problem(
    status: int, code: str, detail: str, extra: Mapping[str, Any], headers: Mapping[str, str]
) -> Response:
    """Make a problem+json response; or what a dialect has instead, below its path."""
    for prefix, envelope in flask.current_app.extensions.get(ENVELOPES, {}).items():
        if request.path == prefix or request.path.startswith(f"{prefix}/"):
            return _in_envelope(envelope, status, code, detail, extra, headers)
    body = problem_body(status, code, detail, request_id=g.get("request_id"), **extra)
    response = flask.current_app.response_class(
        orjson.dumps(body), status=status, mimetype="application/problem+json"
    )
    response.headers.update(headers)
    return response


def _respond_to_api_error(error: ApiError) -> Response:
    return problem(error.status, error.code, error.detail, error.extra, error.headers)


def _respond_to_http_exception(error: HTTPException) -> Response:
    """werkzeug's own errors, about routing, methods and sizes, as a problem instead of HTML."""
    status = error.code or 500
    headers: dict[str, str] = {}
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))  # RFC 9110 section 15.5.6
    if status < 400:  # a redirect is not an error
        return flask.current_app.make_response(error.get_response(request.environ))
    title = HTTP_STATUS_CODES.get(status, "Error")
    detail = {
        404: "Nothing exists at this URL.",
        405: f"{request.method} is not allowed here; see the Allow header.",
        413: f"The body is larger than the limit of {flask.current_app.config['MAX_BODY_BYTES']} bytes.",
    }.get(status, f"{title}.")
    return problem(status, code_of_status(status), detail, {}, headers)


def code_of_status(status: int) -> str:
    """The code of an error of which nothing but its HTTP status is known."""
    return ERROR_CODES.get(status) or HTTP_STATUS_CODES.get(status, "Error").lower().replace(" ", "_")


def _respond_to_database_error(error: Exception) -> Response:
    """503 if the database is away, busy, full or too slow, which passes; anything else is a bug of ours."""
    if is_transient(error):
        log.warning("database unavailable: %s", describe(error))
        return _respond_to_api_error(Unavailable())
    return _respond_to_unexpected(error)


def _respond_to_unexpected(error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    if _is_schema_mismatch(error):  # the database was downgraded while the service runs
        return _respond_to_api_error(SchemaMismatch())
    return problem(500, "internal_error", "An internal error occurred; it was logged.", {}, {})


class BestEffort:
    """A block whose failure is logged and goes no further: `with BestEffort("counting a request"): …`.

    Whatever is done after a view has returned stands in such blocks. Its work is committed by then, and an error
    would report as failed what was stored.
    """

    __slots__ = ("_step",)

    def __init__(self, step: str) -> None:
        self._step = step

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        try:
            log.error("%s failed", self._step, exc_info=error)
        except Exception:  # noqa: S110 - logging is best effort, too  # nosec
            pass
        return True


def driver_errors(kind: str = "Error") -> tuple[type[Exception], ...]:
    """The drivers' errors of a kind (PEP 249). For `except`, which asks when something has gone wrong."""
    return getattr(sqlite3, kind), *_of_postgres(kind)


def database_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """All that a database may raise, through SQLAlchemy or past it, and others that are handled like it."""
    return sqlalchemy_errors.SQLAlchemyError, *driver_errors(), *others


def _of_postgres(kind: str) -> tuple[type[Exception], ...]:
    """The error of Postgres' driver, if that is loaded: SQLite does without its 40 ms and 3 MiB."""
    psycopg = sys.modules.get("psycopg")
    return () if psycopg is None else (getattr(psycopg, kind),)


def is_transient(error: BaseException) -> bool:
    """Whether a database error means that the database is away or busy, rather than that our statement is wrong."""
    if isinstance(error, sqlalchemy_errors.TimeoutError):
        return True  # no connection became free in time
    if isinstance(error, sqlalchemy_errors.DBAPIError):
        if error.connection_invalidated:
            return True
        error = error.orig or error
    if isinstance(error, _of_postgres("Error")):
        return _is_transient_in_postgres(error)
    # sqlite3 raises one class for "locked", "full", "disk I/O error" and "no such table"; the low byte of the code is
    # the primary result code
    return (getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF) in _TRANSIENT_IN_SQLITE


_TRANSIENT_IN_SQLITE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
)
# Classes of SQLSTATE (PostgreSQL documentation, appendix A): connection, resources, operator, system; and a prepared
# statement that is gone
_TRANSIENT_SQLSTATES = ("08", "40", "53", "55P03", "57", "58", "25006", "26000")
# A prepared statement whose table was migrated is "not supported", like all that Postgres or Citus can't do, and like
# nothing of that it passes. Its words may be in any language, and the function that says so has one name.
_FEATURE_NOT_SUPPORTED = "0A000"
_STALE_PLAN, _STALE_PLAN_SAYS = "cached plan must not change result type", "RevalidateCachedQuery"
# Citus gives most of its lost connections class 08, but not those that it loses inside a transaction, and none where
# it passes on what libpq says.
_INTERNAL_ERROR = "XX000"
_LOST_BY_CITUS = re.compile(
    "failure on connection marked as essential|connection to the remote node|connection not open"
    "|server closed the connection|no connection to the server"
    "|could not (connect to|receive data from|send data to) server"
)


def _is_transient_in_postgres(error: BaseException) -> bool:
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate is None:  # the connection broke or was refused before the server responded
        return isinstance(error, (*_of_postgres("OperationalError"), *_of_postgres("InterfaceError")))
    if sqlstate == _FEATURE_NOT_SUPPORTED:
        return _STALE_PLAN in str(error) or _diagnosis(error, "source_function") == _STALE_PLAN_SAYS
    if sqlstate == _INTERNAL_ERROR:
        return _LOST_BY_CITUS.search(str(error)) is not None
    return bool(sqlstate.startswith(_TRANSIENT_SQLSTATES))


def _diagnosis(error: BaseException, field: str) -> str | None:
    return getattr(getattr(error, "diag", None), field, None)


def _is_schema_mismatch(error: BaseException | None) -> bool:
    """Whether the database lacks a table or column that a statement names."""
    while error is not None:
        original = getattr(error, "orig", None) or error
        if getattr(original, "sqlstate", None) in _MISSING_IN_POSTGRES:
            return True
        if isinstance(original, sqlite3.OperationalError) and _MISSING_IN_SQLITE.search(str(original)):
            return True
        error = error.__cause__
    return False


_MISSING_IN_POSTGRES = ("42P01", "42703")  # a table, a column
_MISSING_IN_SQLITE = re.compile("no such (table|column)|has no column named")


def describe(error: BaseException) -> str:
    """A database error without any values: DETAIL lines of Postgres quote rows and keys."""
    original = getattr(error, "orig", None) or error
    message = _diagnosis(original, "message_primary") or str(original).split("\n", 1)[0]
    return f"{type(original).__name__}: {message}"
