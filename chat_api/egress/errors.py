"""Why an outgoing call brought no answer, or not all of it. No message ever holds a key."""


class EgressError(Exception):
    """Base of all: `detail` is for the user to read, `code` for programs."""

    code = "provider_failed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Failed(EgressError):
    """The other side answered with an error, or with something that can't be used."""


class Unreachable(EgressError):
    """No connection: DNS, refused, TLS; or it broke."""

    code = "provider_unreachable"


class Blocked(EgressError):
    """The gate lets no call go to this address."""

    code = "provider_blocked"


class TimedOut(EgressError):
    """Silent for too long, or it took longer than a whole answer may take."""

    code = "provider_timeout"


class Cancelled(EgressError):
    """`CancelToken.cancel()` was called: the connection is closed."""

    code = "cancelled"
