"""The headers of requests to providers: the protocol's, the provider's own, and the one with the key."""

from collections.abc import Mapping

from .request import Endpoint
from .vendors import BEARER, Vendor

# whose values say who asks, in words that errors may contain, too
NOT_SECRET = frozenset(
    {"anthropic-beta", "http-referer", "openai-beta", "openai-organization", "openai-project", "referer", "user-agent",
     "x-title"}
)  # fmt: skip
MIN_SECRET_LENGTH = 8  # of a word in a header's value: "Bearer" is none
NO_KEY = "none"  # as a provider's `auth`: no key is sent


def key_headers(endpoint: Endpoint, key: str, default_auth: str) -> dict[str, str]:
    """The header that takes the key. Without a key for the endpoint there is none: a local server may need none."""
    auth = endpoint.auth or default_auth
    if not endpoint.api_key or auth == NO_KEY:
        return {}
    return {"Authorization": f"Bearer {key}"} if auth == BEARER else {auth: key}


def needs_no_key(auth: str | None, vendor: Vendor | None) -> bool:
    """Whether requests to a provider make sense without a key: it gets none, or its server may do without."""
    return auth == NO_KEY or (vendor is not None and not vendor.needs_key)


def merged_headers(*several: Mapping[str, str]) -> dict[str, str]:
    """All headers; of those whose names differ at most in case, the last."""
    merged: dict[str, tuple[str, str]] = {}
    for headers in several:
        merged |= {name.lower(): (name, value) for name, value in headers.items()}
    return dict(merged.values())


def secrets_of(endpoint: Endpoint) -> tuple[str, ...]:
    """What no error may repeat: the key, and what stands in the provider's own headers."""
    values = (value for name, value in endpoint.headers.items() if name.lower() not in NOT_SECRET)
    words = (word for value in values for word in value.split() if len(word) >= MIN_SECRET_LENGTH)
    return (endpoint.api_key, *words)
