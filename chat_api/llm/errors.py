"""What providers answer instead of a reply, beside the failures that every outgoing call has (`egress.errors`)."""

from ..egress.errors import EgressError


class KeyRefused(EgressError):
    """401 or 403: the provider does not take the key."""

    code = "provider_refused_key"


class RateLimited(EgressError):
    """429. `retry_after_s` is what the provider asks for, None where it does not say."""

    code = "provider_rate_limited"

    def __init__(self, detail: str, *, retry_after_s: int | None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
