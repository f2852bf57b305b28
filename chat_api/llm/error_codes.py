"""The codes of what can go wrong with a provider: their HTTP status, and what they mean. A closed list."""

from typing import NamedTuple


class ErrorCode(NamedTuple):
    """What is known of a code."""

    status: int  # of the response to a completion that is not streamed, and of the problem in any case
    meaning: str


FAILED = "provider_failed"
UNREACHABLE = "provider_unreachable"
BLOCKED = "provider_blocked"
TIMED_OUT = "provider_timeout"
KEY_REFUSED = "provider_refused_key"
NOT_ALLOWED = "provider_not_allowed"
QUOTA_EXCEEDED = "provider_quota_exceeded"
RATE_LIMITED = "provider_rate_limited"
OVERLOADED = "provider_overloaded"
CONTEXT_TOO_LONG = "provider_context_too_long"
MODEL_NOT_FOUND = "provider_model_not_found"
INVALID_REQUEST = "provider_invalid_request"
ATTACHMENT_REFUSED = "provider_refused_attachment"
ATTACHMENT_UNREADABLE = "attachment_unreadable"

# A provider's 401 or 400 never becomes ours: 502 says that the provider did not do its part, the code says why.
ERROR_CODES = {
    KEY_REFUSED: ErrorCode(502, "The provider refused the API key. Store another one."),
    NOT_ALLOWED: ErrorCode(
        502,
        "The provider knows the key, but does not allow the request: the model, the region, or what its moderation "
        "found in the conversation.",
    ),
    QUOTA_EXCEEDED: ErrorCode(502, "The quota or the credit of the key is used up. Waiting does not help."),
    RATE_LIMITED: ErrorCode(
        429, "The provider throttles the key. `Retry-After` is the provider's, or 1 where it gave none."
    ),
    OVERLOADED: ErrorCode(
        502,
        "The provider or the model is overloaded, loading or not available for now. `Retry-After` is passed on if the "
        "provider gave one.",
    ),
    CONTEXT_TOO_LONG: ErrorCode(502, "The conversation is longer than the model or the provider takes."),
    MODEL_NOT_FOUND: ErrorCode(
        502, "The provider does not have the model, or it is not available to the key."
    ),
    INVALID_REQUEST: ErrorCode(
        502, "The provider refused the request as invalid, such as a parameter of it."
    ),
    ATTACHMENT_REFUSED: ErrorCode(
        502,
        "The provider or the model does not take an attachment of the conversation: its kind, its size, or what is in "
        "it.",
    ),
    ATTACHMENT_UNREADABLE: ErrorCode(
        409, "The bytes of an attachment are not in the storage any more; `attachment_id` says of which."
    ),
    UNREACHABLE: ErrorCode(502, "There was no connection to the provider, or it broke."),
    BLOCKED: ErrorCode(502, "The provider's address may not be called."),
    FAILED: ErrorCode(502, "The provider answered with another error, or with something that is no reply."),
    TIMED_OUT: ErrorCode(504, "The provider was silent for too long."),
}
