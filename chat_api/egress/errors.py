"""Errors of outgoing calls. No message ever contains a key."""


class EgressError(Exception):
    """Base class: `detail` is for people, `code` for programs."""

    code = "provider_failed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Failed(EgressError):
    """The server answered with an error, or with something unusable."""


class Unreachable(EgressError):
    """No connection (DNS, refused, TLS), or it broke."""

    code = "provider_unreachable"


class Blocked(EgressError):
    """The gate does not allow calls to this address."""

    code = "provider_blocked"


class TimedOut(EgressError):
    """The server was silent for too long, or the whole answer took too long."""

    code = "provider_timeout"


class Cancelled(EgressError):
    """`CancelToken.cancel()` was called, and the connection is closed."""

    code = "cancelled"
