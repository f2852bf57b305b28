"""The error tree, and the only code that turns an exception into a response.

ApiError                       what goes wrong as a noun; services raise these
    InvalidInput          400  the caller can fix it: `errors` names each field
    Unauthorized          401  no valid token
    Forbidden             403  a valid token, but not for this
    NotFound              404  it does not exist or belongs to somebody else: the same answer
    RequestTimeout        408  the client took too long to send its request
    Conflict              409  it conflicts with the current state
        StillRunning      409  the first request with this Idempotency-Key is still in progress
        KeyUnreadable     409  no key in ENCRYPTION_KEYS opens the stored API key
        ResponseUnreadable 409 no key in ENCRYPTION_KEYS opens the first response to this Idempotency-Key
        QuotaExceeded     409  the user has stored as much as every user may
    PreconditionFailed    412  If-Match names a version that is no longer current
    PayloadTooLarge       413  larger than the limit
    NotSentAsJson         415  Content-Type is not application/json
    KeyReused             422  this Idempotency-Key was used with another body or role
    TooManyRequests       429  throttled; `retry_after_s` says for how long
    ProviderFailed        502  an LLM provider gave no reply (429 if it throttles, 504 if it is silent)
    Unavailable           503  the database is unavailable or busy; nothing was stored
        SchemaMismatch    503  the database is not upgraded to the schema of this version

All of them, werkzeug's own and unexpected ones become application/problem+json (RFC 9457). What is done after a
response was made can't change it any more, see `BestEffort`.
"""

import logging
import re
import sqlite3
from collections.abc import Mapping
from typing import Any

import flask
import orjson
import psycopg
from flask import Flask, Response, g, request
from sqlalchemy import exc as sqlalchemy_errors
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.http import HTTP_STATUS_CODES

log = logging.getLogger(__name__)

DRIVER_ERRORS = (psycopg.Error, sqlite3.Error)
DATABASE_ERRORS = (sqlalchemy_errors.SQLAlchemyError, *DRIVER_ERRORS)

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


class KeyUnreadable(Conflict):
    """The operator has lost or changed ENCRYPTION_KEYS; only the user has the API key."""

    code = "key_unreadable"

    def __init__(
        self,
        detail: str = "The server can't open the stored API key for this provider any more; store the key again.",
    ) -> None:
        super().__init__(detail)


class ResponseUnreadable(Conflict):
    """Its effect is stored: treated as a new request it would be done twice."""

    code = "response_unreadable"

    def __init__(self, location: str | None) -> None:
        super().__init__(
            "The first request with this Idempotency-Key succeeded, but the server can't open its response any more.",
            headers={"Location": location} if location else None,
        )


class ResponseGone(Conflict):
    """Its effect was stored, and deleted since, with what is needed to repeat the response."""

    code = "response_gone"

    def __init__(self) -> None:
        super().__init__(
            "The first request with this Idempotency-Key succeeded, but what it created has been deleted since."
        )


class QuotaExceeded(Conflict):
    """The user has stored as much as every user may."""

    code = "quota_exceeded"

    def __init__(self, detail: str, *, quota: str, limit: int) -> None:
        super().__init__(detail)
        self.extra |= {"quota": quota, "limit": limit}


class PreconditionFailed(ApiError):
    status, code = 412, "precondition_failed"

    def __init__(self) -> None:
        super().__init__("The object has changed since you read it; get it again.")


class PayloadTooLarge(ApiError):
    status, code = 413, "payload_too_large"


class NotSentAsJson(ApiError):
    status, code = 415, "unsupported_media_type"

    def __init__(self) -> None:
        super().__init__("Send the body as JSON in UTF-8, with Content-Type: application/json.")


class KeyReused(ApiError):
    status, code = 422, "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used with another body or in another role; use a new key.")


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
                 PayloadTooLarge, NotSentAsJson, KeyReused, TooManyRequests, ApiError, ProviderFailed, Unavailable,
                 ProviderTimedOut)
}  # fmt: skip


def init_app(app: Flask) -> None:
    """Register the handlers: one for each of the four origins of an error."""
    app.register_error_handler(ApiError, _respond_to_api_error)
    app.register_error_handler(HTTPException, _respond_to_http_exception)
    for kind in DATABASE_ERRORS:  # connecting raises the drivers' own, which SQLAlchemy does not wrap
        app.register_error_handler(kind, _respond_to_database_error)
    app.register_error_handler(Exception, _respond_to_unexpected)


def problem_body(status: int, code: str, detail: str, **extra: Any) -> dict[str, Any]:
    """A problem object. `type` is about:blank, so `title` is the status phrase (RFC 9457 section 4.2.1)."""
    title = HTTP_STATUS_CODES.get(status, "Error")
    return {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail, **extra}


def problem(
    status: int, code: str, detail: str, extra: Mapping[str, Any], headers: Mapping[str, str]
) -> Response:
    """Make a problem+json response."""
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


def is_transient(error: BaseException) -> bool:
    """Whether a database error means that the database is away or busy, rather than that our statement is wrong."""
    if isinstance(error, sqlalchemy_errors.TimeoutError):
        return True  # no connection became free in time
    if isinstance(error, sqlalchemy_errors.DBAPIError):
        if error.connection_invalidated:
            return True
        error = error.orig or error
    if isinstance(error, psycopg.Error):
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
# statement whose table was migrated (0A000: "cached plan must not change result type"), or that is gone
_TRANSIENT_SQLSTATES = ("08", "40", "53", "55P03", "57", "58", "25006", "0A000", "26000")


def _is_transient_in_postgres(error: BaseException) -> bool:
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate is None:  # the connection broke or was refused before the server responded
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return sqlstate.startswith(_TRANSIENT_SQLSTATES)


def _is_schema_mismatch(error: BaseException | None) -> bool:
    """Whether the database lacks a table or column that a statement names."""
    while error is not None:
        original = getattr(error, "orig", None) or error
        if isinstance(original, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
            return True
        if isinstance(original, sqlite3.OperationalError) and _MISSING_IN_SQLITE.search(str(original)):
            return True
        error = error.__cause__
    return False


_MISSING_IN_SQLITE = re.compile("no such (table|column)|has no column named")


def describe(error: BaseException) -> str:
    """A database error without any values: DETAIL lines of Postgres quote rows and keys."""
    original = getattr(error, "orig", None) or error
    diagnosis = getattr(original, "diag", None)
    message = getattr(diagnosis, "message_primary", None) or str(original).split("\n", 1)[0]
    return f"{type(original).__name__}: {message}"
