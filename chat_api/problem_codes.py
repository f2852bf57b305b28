"""The closed list of the codes of problems: for programs that read them, in the OpenAPI document and in docs/api.md."""

from typing import Any

from werkzeug.exceptions import default_exceptions
from werkzeug.http import HTTP_STATUS_CODES

from .errors import code_of_status
from .llm.error_codes import ERROR_CODES as PROVIDER_CODES

OWN_CODES = {
    "invalid_input": (400, "The request is invalid; `errors` names each field."),
    "unauthorized": (401, "There is no valid token."),
    "forbidden": (403, "The token is valid, but does not allow this request."),
    "registration_closed": (403, "Registration is closed: only the operator can create accounts."),
    "invitation_required": (403, "Registration needs an invitation."),
    "invalid_invitation": (
        403,
        "The invitation was used, has expired, is unknown, or is for another address.",
    ),
    "recent_login_required": (403, "The request needs `current_password`, or a recent login."),
    "not_found": (404, "The object does not exist, or belongs to another user."),
    "no_text": (404, "The file has no text, or none that could be extracted; `detail` says why."),
    "request_timeout": (408, "The body arrived too slowly."),
    "conflict": (409, "The request conflicts with the current state."),
    "still_running": (409, "The first request with this `Idempotency-Key` is still in progress."),
    "text_not_ready": (409, "The text of the file is still being extracted; retry after `Retry-After`."),
    "key_unreadable": (409, "The server can't decrypt the stored API key any more; store it again."),
    "response_unreadable": (
        409,
        "The server can't decrypt the first response to this `Idempotency-Key` any more.",
    ),
    "response_gone": (
        409,
        "The object that the first request with this `Idempotency-Key` created was deleted since.",
    ),
    "quota_exceeded": (
        409,
        "The user has reached a quota, which `quota` and `limit` name; delete something first.",
    ),
    "too_many_tokens": (409, "The user has the maximum number of personal access tokens; delete one first."),
    "too_many_invitations": (
        409,
        "The admin has 1,000 invitations, used and expired ones included; delete some.",
    ),
    "endpoint_changed": (
        409,
        "The provider's `api_endpoint` is not the one that the request named for the key.",
    ),
    "precondition_failed": (412, "`If-Match` names a version that is no longer current."),
    "payload_too_large": (413, "The body is larger than the limit."),
    "unsupported_media_type": (415, "The body was not sent as JSON."),
    "requested_range_not_satisfiable": (
        416,
        "`Range` names no byte of the content; `Content-Range` says how long it is.",
    ),
    "idempotency_key_reused": (422, "This `Idempotency-Key` was used with another body, or in another role."),
    "attachment_refused": (
        422,
        "The model, the provider or the service does not accept an attachment of the message to reply to; "
        "`attachment_id` says which one, `reason` why.",
    ),
    "attachment_too_large": (
        422,
        "An attachment of the message to reply to is larger than all files of a completion together may be.",
    ),
    "too_many_requests": (429, "Too many requests; retry after `Retry-After`."),
    "internal_error": (500, "A bug in the service; it was logged with the `request_id`."),
    "unavailable": (
        503,
        "The database is unavailable or busy, or all slots are taken; retry after `Retry-After`.",
    ),
    # only in the problem of a completion, which is stored with it
    "worker_lost": (500, "The worker that wrote the reply died; the text that was stored by then is kept."),
    "server_stopped": (
        503,
        "The server was stopped while the reply was written; the text that had arrived is kept.",
    ),
}
# responses to what never reaches the application, of the HTTP server or of the proxy
REFUSALS = {
    "bad_request": (400, "The request is not well-formed HTTP."),
    "request-uri_too_long": (414, "The request line is too long."),
    "uri_too_long": (414, "The request line is too long."),
    "internal_server_error": (500, "The server failed."),
}


def problem_codes() -> dict[str, tuple[int, str]]:
    """Each code with its HTTP status and meaning, in the order of the list."""
    providers = {code: (known.status, known.meaning) for code, known in PROVIDER_CODES.items()}
    return OWN_CODES | providers | _codes_of_http()


def _codes_of_http() -> dict[str, tuple[int, str]]:
    """The codes of errors that are not specific to this API: they are the names of statuses."""
    found = {}
    for status in sorted(default_exceptions):
        if (code := code_of_status(status)) not in OWN_CODES and code not in PROVIDER_CODES:
            found[code] = status, f"HTTP {status}: {HTTP_STATUS_CODES[status]}."
    return found | REFUSALS


def schema() -> dict[str, Any]:
    """The schema of the field `code`."""
    codes = problem_codes()
    rows = "\n".join(f"| `{code}` | {status} | {meaning} |" for code, (status, meaning) in codes.items())
    head = "What happened, for programs. A closed list:\n\n| code | status | meaning |\n| --- | --- | --- |\n"
    return {"type": "string", "enum": list(codes), "description": head + rows}
