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
    QUOTA_EXCEEDED: ErrorCode(502, "The quota or the credit of the key is used up. Retrying does not help."),
    RATE_LIMITED: ErrorCode(
        429, "The provider limits the rate of the key. `Retry-After` is the provider's, or 1 if it sent none."
    ),
    OVERLOADED: ErrorCode(
        502,
        "The provider or the model is overloaded, loading or temporarily unavailable. `Retry-After` is "
        "passed on if the provider sent one.",
    ),
    CONTEXT_TOO_LONG: ErrorCode(502, "The conversation is longer than the model or the provider accepts."),
    MODEL_NOT_FOUND: ErrorCode(
        502, "The provider does not have the model, or it is not available to the key."
    ),
    INVALID_REQUEST: ErrorCode(
        502, "The provider refused the request as invalid, for example because of a parameter."
    ),
    ATTACHMENT_REFUSED: ErrorCode(
        502,
        "The provider or the model does not accept an attachment of the conversation because of its "
        "type, size or content.",
    ),
    ATTACHMENT_UNREADABLE: ErrorCode(
        409, "The bytes of an attachment are not in the storage any more; `attachment_id` says which one."
    ),
    UNREACHABLE: ErrorCode(502, "The service could not connect to the provider, or the connection broke."),
    BLOCKED: ErrorCode(502, "Calls to the provider's address are not allowed."),
    FAILED: ErrorCode(
        502, "The provider answered with another error, or with something that is not a reply."
    ),
    TIMED_OUT: ErrorCode(504, "The provider did not answer in time, or stopped sending."),
}
