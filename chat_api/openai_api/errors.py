"""Errors as OpenAI's clients understand them: the same errors as everywhere, in another envelope."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import RETRY_AFTER_S, ApiError, Said
from ..llm import error_codes

INVALID, SERVER, RATE_LIMIT = "invalid_request_error", "server_error", "rate_limit_error"
NO_RETRY = {"x-should-retry": "false"}  # SDKs repeat 409, 429 and all from 500 on by themselves


class Meaning(NamedTuple):
    """How an error of ours is said; None stays as it is."""

    status: int | None
    type: str
    code: str | None
    may_retry: bool = True


MEANINGS = {
    "unauthorized": Meaning(401, INVALID, "invalid_api_key"),
    "conflict": Meaning(400, INVALID, "conversation_locked"),
    "quota_exceeded": Meaning(429, "insufficient_quota", "insufficient_quota", may_retry=False),
    "too_many_requests": Meaning(429, RATE_LIMIT, "rate_limit_exceeded"),
    "key_unreadable": Meaning(400, INVALID, "key_unreadable"),
    "response_unreadable": Meaning(400, INVALID, "response_unreadable"),
    "response_gone": Meaning(400, INVALID, "response_gone"),
    "attachment_refused": Meaning(400, INVALID, "attachment_refused"),
    "attachment_too_large": Meaning(400, INVALID, "attachment_too_large"),
    "attachment_unreadable": Meaning(400, INVALID, "attachment_unreadable"),
    "schema_mismatch": Meaning(503, SERVER, "unavailable"),
    error_codes.INVALID_REQUEST: Meaning(400, INVALID, "provider_refused_request"),
    error_codes.ATTACHMENT_REFUSED: Meaning(400, INVALID, error_codes.ATTACHMENT_REFUSED),
    error_codes.CONTEXT_TOO_LONG: Meaning(400, INVALID, "context_length_exceeded"),
    error_codes.MODEL_NOT_FOUND: Meaning(404, INVALID, "model_not_found"),
    error_codes.RATE_LIMITED: Meaning(429, RATE_LIMIT, error_codes.RATE_LIMITED),
    error_codes.KEY_REFUSED: Meaning(502, SERVER, error_codes.KEY_REFUSED, may_retry=False),
    error_codes.NOT_ALLOWED: Meaning(502, SERVER, error_codes.NOT_ALLOWED, may_retry=False),
    error_codes.QUOTA_EXCEEDED: Meaning(502, SERVER, error_codes.QUOTA_EXCEEDED, may_retry=False),
    error_codes.BLOCKED: Meaning(502, SERVER, error_codes.BLOCKED, may_retry=False),
}


class RequestRefused(ApiError):
    """A request that this dialect does not take, with the name of the parameter and a code of OpenAI's list."""

    def __init__(
        self, message: str, *, param: str | None, code: str = "invalid_value", status: int = 400
    ) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.extra["param"] = param


def locked(error: ApiError) -> RequestRefused:
    """Another reply is being written in the conversation that a request names. SDKs don't repeat a 400."""
    refused = RequestRefused(error.detail, param="conversation", code="conversation_locked")
    refused.headers["Retry-After"] = str(RETRY_AFTER_S)
    return refused


def unknown_conversation() -> RequestRefused:
    """There is no such conversation."""
    return RequestRefused(
        "There is no such conversation.", param="conversation", code="not_found", status=404
    )


def envelope(status: int, code: str, detail: str, extra: Mapping[str, Any]) -> Said:
    """An error of ours as OpenAI would say it."""
    param, errors = extra.get("param"), extra.get("errors")
    if errors:
        param, messages = next(iter(errors.items()))
        code, detail = "invalid_value", f"{param}: {' '.join(messages)}"
    meaning = MEANINGS.get(code) or Meaning(None, INVALID if status < 500 else SERVER, code)
    status = meaning.status or status
    error = {"message": detail, "type": meaning.type, "param": param, "code": meaning.code}
    return Said(status, {"error": error}, {} if meaning.may_retry else NO_RETRY)
