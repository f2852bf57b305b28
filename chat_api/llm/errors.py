"""Why a provider gave no reply, or not all of it. No message ever holds a key."""


class ProviderError(Exception):
    """Base of all: `detail` is for the user to read, `code` for programs."""

    code = "provider_failed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Failed(ProviderError):
    """It answered with an error, or with something that is no reply."""


class KeyRefused(ProviderError):
    """401 or 403: it does not take the key."""

    code = "provider_refused_key"


class Unreachable(ProviderError):
    """No connection: DNS, refused, TLS; or it broke."""

    code = "provider_unreachable"


class Blocked(ProviderError):
    """The gate lets no call go to this address."""

    code = "provider_blocked"


class TimedOut(ProviderError):
    """Silent for too long, or it took longer than a whole reply may take."""

    code = "provider_timeout"


class RateLimited(ProviderError):
    """429. `retry_after_s` is what the provider asks for, None where it does not say."""

    code = "provider_rate_limited"

    def __init__(self, detail: str, *, retry_after_s: int | None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Cancelled(ProviderError):
    """`Call.cancel()` was called: the connection is closed."""

    code = "cancelled"
