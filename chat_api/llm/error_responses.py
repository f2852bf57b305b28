"""Providers' error responses as our errors: a code for programs, and a detail with the provider's own words.

Three steps: `error_reading` finds the words in whatever shape they come, `error_rules` gives them a code, and
`redaction` makes them fit for people.
"""

from email.message import Message

from . import error_codes
from .error_reading import (
    Said,
    blocked_categories,
    read_body,
    read_value,
    read_words_of_headers,
    reports_error,
    wait_of_headers,
    whole_seconds,
)
from .error_rules import code_of, normalized
from .errors import ProviderError
from .redaction import Secrets, cleaned, is_document, redacted
from .untrusted_json import as_dict

# what the code means for the user, before the provider's words
ADVICE = {
    error_codes.KEY_REFUSED: "The provider refused the key. Check the key and its permissions.",
    error_codes.NOT_ALLOWED: "The provider does not allow this request.",
    error_codes.QUOTA_EXCEEDED: "The quota or the credit of the key is used up.",
    error_codes.RATE_LIMITED: "The provider's rate limit for this key is reached. Try again later.",
    error_codes.OVERLOADED: "The provider is overloaded or not available. Try again later.",
    error_codes.CONTEXT_TOO_LONG: "The conversation is longer than the model accepts.",
    error_codes.MODEL_NOT_FOUND: "The provider does not have this model.",
}
BLOCKED = "The prompt was blocked by a content filter"
NO_REPLY = (
    "There is no reply in the provider's response. Check the provider's `api_format`, and whether its `api_endpoint` "
    "is one of chat completions or messages."
)
# where an object that is no reply may say why
SAYING_FIELDS = ("message", "Message", "msg", "text")
# Statuses with which gateways wrap the error of the provider behind them, whose own status is in the body.
WRAPPING = (500, 502)
# what a 403 says that gives no reason; then it is about the key, as far as anybody knows
NO_REASON = frozenset(
    ("", "forbidden", "403 forbidden", "access denied", "access forbidden", "http 403", "error")
)


def error_of_response(status: int, headers: Message, body: bytes, secrets: Secrets) -> ProviderError:
    """The error for a response with a status other than 200. Its detail contains none of the secrets."""
    if 300 <= status < 400:
        return ProviderError(f"The provider answered {status}, a redirect; redirects are not followed.")
    said = read_body(body)
    said.words |= read_words_of_headers(headers)
    inner_status = said.status if said.status is not None and status in WRAPPING else status
    header_wait_s = wait_of_headers(headers)
    message = redacted(said.message, secrets)
    if message:
        said_text = f"The provider answered {status}: {message}"
    elif is_document(said.message):
        said_text = f"The provider answered {status} with a web page."
    else:
        said_text = f"The provider answered {status}."
    wait_s = said.wait_s if header_wait_s is None else header_wait_s
    return _error(inner_status, said, said_text, wait_s)


def error_of_report(report: object, secrets: Secrets) -> ProviderError:
    """The error that is reported inside a response whose status was 200: an object of any shape, a list, or a text."""
    said = read_value(report)
    message = redacted(said.message, secrets)
    said_text = f"The provider reported: {message}" if message else "The provider reported an error."
    return _error(said.status, said, said_text, said.wait_s)


def error_of_stray(answer: object, secrets: Secrets) -> ProviderError | None:
    """The error that an object without a reply reports, None if it reports none: it may be usage, or a sign of life."""
    return error_of_report(answer, secrets) if isinstance(answer, dict) and reports_error(answer) else None


def error_of_no_reply(stray: object, secrets: Secrets) -> ProviderError:
    """The error for a response with status 200 in which there is no reply, but perhaps this object or text."""
    if isinstance(stray, str):
        return error_of_report(stray, secrets)
    fields = as_dict(stray)
    if categories := blocked_categories(fields):
        return error_of_report(
            {"code": "content_filter", "message": f"{BLOCKED}: {', '.join(categories)}"}, secrets
        )
    if said := {name: fields[name] for name in SAYING_FIELDS if isinstance(fields.get(name), str)}:
        return error_of_report({**said, "code": fields.get("code")}, secrets)
    return ProviderError(NO_REPLY)


def _error(status: int | None, said: Said, said_text: str, wait_s: float | None) -> ProviderError:
    code = _code(status, said)
    advice = ADVICE.get(code)
    return ProviderError(
        f"{advice} {said_text}" if advice else said_text, code=code, retry_after_s=whole_seconds(wait_s)
    )


def _code(status: int | None, said: Said) -> str:
    message = cleaned(said.message, 2000)
    code = code_of(status, said.words, message)
    if code == error_codes.NOT_ALLOWED and status == 403 and _gives_no_reason(said, message):
        return error_codes.KEY_REFUSED
    if code == error_codes.QUOTA_EXCEEDED and said.wait_s is not None and not _is_daily(said):
        return error_codes.RATE_LIMITED  # Gemini uses the same words for a limit that is over in seconds
    return code


def _gives_no_reason(said: Said, message: str) -> bool:
    generic = (error_codes.FAILED, error_codes.INVALID_REQUEST)
    return message.strip(" .!").lower() in NO_REASON and code_of(None, said.words, "") in generic


def _is_daily(said: Said) -> bool:
    return any("perday" in normalized(word) for word in said.words)
