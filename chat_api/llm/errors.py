"""Errors specific to LLM providers, in addition to those of any outgoing call (`egress.errors`)."""

from ..egress.errors import EgressError


class KeyRefused(EgressError):
    """401 or 403: the provider refused the key."""

    code = "provider_refused_key"


class RateLimited(EgressError):
    """429. `retry_after_s` comes from Retry-After, and is None without it."""

    code = "provider_rate_limited"

    def __init__(self, detail: str, *, retry_after_s: int | None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
