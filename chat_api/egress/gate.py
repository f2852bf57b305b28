"""The one gate for all outgoing calls: it decides which addresses may be called, and calls no other.

The address is looked at when the connection is made, and the connection goes to the very address that was looked
at: a name that means another address a moment later changes nothing. Redirects are not followed, nothing is taken
from the environment, and only a kept connection that turns out to be dead is tried a second time.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from .addresses import IPAddress, Origin, is_public, parse
from .cancellation import CancelToken
from .errors import Blocked, Failed, TimedOut, Unreachable
from .limits import Limits

if TYPE_CHECKING:
    import ssl

    from .connection import Pinned, Resolver
    from .response import Response

MAX_IDLE = 64  # connections kept open, of the whole process
MAX_IDLE_S = 30.0

NOT_PUBLIC = (
    "The endpoint's address is not a public one. An operator can allow its origin with OUTGOING_ALLOWED."
)
NOT_ENCRYPTED = (
    "The endpoint is not https: the key could be read on the way. An operator can allow its origin with "
    "OUTGOING_ALLOWED."
)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to send. Headers may hold a key, so they are not in its repr."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


class Gate:
    """Opens connections to where calls may go, and keeps them for the next call. One per process, for all threads.

    `allowed_origins` (`scheme://host:port`) are open whatever address they have, without TLS, too;
    `allow_loopback` opens this machine itself, for development. All else must be https at a public address.
    """

    def __init__(
        self,
        allowed_origins: tuple[str, ...] = (),
        allow_loopback: bool = False,
        *,
        resolver: "Resolver | None" = None,
    ) -> None:
        self._allowed = frozenset(parse(origin)[0] for origin in allowed_origins)
        self._allow_loopback = allow_loopback
        self._resolver = resolver
        self._lock = threading.Lock()
        self._idle: list[Pinned] = []  # the one that was used last is last

    def send(
        self,
        request: HttpRequest,
        *,
        cancel_token: CancelToken,
        limits: Limits,
        deadline: float | None = None,
    ) -> "Response":
        """Send a request and wait for the head of its answer; the caller reads and closes that.

        `deadline` is when the body must have been read, in `time.monotonic`'s seconds; without it the limits say
        so. Raises EgressError.
        """
        origin, target = parse(request.url)
        if origin.scheme == "http" and not (self._allow_loopback or origin in self._allowed):
            raise Blocked(NOT_ENCRYPTED)
        message = _message(request, origin, target)
        if deadline is None:
            deadline = time.monotonic() + limits.total_s
        if (kept := self._take(origin)) is not None:
            response = self._exchange(kept, message, cancel_token, limits, deadline)
            if response is not None:
                return response
        response = self._exchange(
            self._connect(origin, cancel_token, limits), message, cancel_token, limits, deadline
        )
        if response is None:  # a new connection never gives None
            raise Unreachable("The connection to the provider broke.")
        return response

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _exchange(
        self, connection: "Pinned", message: bytes, cancel_token: CancelToken, limits: Limits, deadline: float
    ) -> "Response | None":
        """Send and read the head; None where a kept connection broke before any byte of an answer."""
        from .response import Response

        response = Response(
            connection, cancel_token=cancel_token, limits=limits, deadline=deadline, give_back=self._give_back
        )
        try:
            cancel_token.ends_by_shutting(connection.sock)
            _send(connection, message, cancel_token, min(limits.first_byte_s, deadline - time.monotonic()))
            return response.read_head()
        except Unreachable:
            response.close()
            if connection.is_reused and not response.has_begun:
                return None
            raise
        except BaseException:
            response.close()
            raise

    def _connect(self, origin: Origin, cancel_token: CancelToken, limits: Limits) -> "Pinned":
        from . import connection as connections

        pinned: Pinned
        if origin.scheme == "https":
            pinned = connections.PinnedTLS(origin.host, origin.port, ssl_context=self._ssl_context)
        else:
            pinned = connections.Pinned(origin.host, origin.port)
        pinned.origin = origin
        pinned.open(
            cancel_token,
            check=self._check,
            resolver=self._resolver or connections.resolve,
            connect_s=limits.connect_s,
        )
        return pinned

    @cached_property
    def _ssl_context(self) -> "ssl.SSLContext":
        """Verifies against the system's trusted certificates; reading them takes 20 ms, so it's done once."""
        import ssl

        return ssl.create_default_context()

    def _check(self, origin: Origin, addresses: list[IPAddress]) -> None:
        """Raise Blocked unless every address may be called."""
        if origin in self._allowed:
            return
        for address in addresses:
            if self._allow_loopback and address.is_loopback:
                continue
            if not is_public(address):
                raise Blocked(NOT_PUBLIC)
            if origin.scheme == "http":
                raise Blocked(NOT_ENCRYPTED)

    def _take(self, origin: Origin) -> "Pinned | None":
        """A kept connection that is still good, as far as can be told without using it."""
        while True:
            with self._lock:
                kept = next((one for one in reversed(self._idle) if one.origin == origin), None)
                if kept is None:
                    return None
                self._idle.remove(kept)
            # readable while nothing was asked: the peer closed it, or sends what belongs to no answer
            if time.monotonic() - kept.idle_since < MAX_IDLE_S and kept.is_connected:
                kept.is_reused = True
                return kept
            kept.close()

    def _give_back(self, connection: "Pinned") -> None:
        now = connection.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(connection)
            keep = [one for one in self._idle if now - one.idle_since < MAX_IDLE_S][-MAX_IDLE:]
            dropped = [one for one in self._idle if one not in keep] if len(keep) < len(self._idle) else []
            self._idle = keep
        for one in dropped:
            one.close()


def _message(request: HttpRequest, origin: Origin, target: str) -> bytes:
    """The request's bytes. Raises Failed for headers that can't be sent, naming no value."""
    headers = {
        "Host": origin.authority,
        "User-Agent": "chat-api",
        "Accept-Encoding": "identity",
        **request.headers,
    }
    if request.body or request.method == "POST":
        headers["Content-Length"] = str(len(request.body))
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    for line in lines:
        if not (line.isascii() and line.isprintable()):
            raise Failed("A header of the request, such as the key, holds characters that can't be sent.")
    return "\r\n".join([*lines, "", ""]).encode() + request.body


def _send(connection: "Pinned", message: bytes, cancel_token: CancelToken, timeout_s: float) -> None:
    try:
        connection.sock.settimeout(max(timeout_s, 0.001))
        connection.sock.sendall(message)
    except TimeoutError:
        cancel_token.check()
        raise TimedOut("The provider did not take the request in time.") from None
    except (OSError, ValueError):
        cancel_token.check()
        raise Unreachable("The connection to the provider broke.") from None
