"""The one gate for all outgoing calls: it decides which addresses may be called, and calls no other.

The address is checked when the connection is made, and the connection goes to exactly the address that was checked,
so a name that resolves differently a moment later (DNS rebinding) changes nothing. Redirects are not followed, nothing
is read from the environment, and only a reused connection that turns out to be dead is tried a second time.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from .addresses import Origin
from .cancellation import CancelToken
from .errors import EgressError, Failed, TimedOut, Unreachable
from .limits import Limits
from .policy import AddressPolicy
from .proxy import CREDENTIALS_REFUSED, Proxy

if TYPE_CHECKING:
    import ssl

    from .connection import PinnedConnection, Resolver
    from .response import Response

MAX_IDLE = 64  # connections kept open, in the whole process
MAX_IDLE_S = 30.0


class Body(Protocol):
    """A body that is not in memory as a whole. It may be sent more than once."""

    def __len__(self) -> int:
        """How many bytes it has."""

    def __iter__(self) -> Iterator[bytes]:
        """Its bytes from the beginning. May raise EgressError."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to send. Headers may contain a key, so they are not in its repr."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | Body = field(default=b"", repr=False)


class Gate:
    """Opens connections to allowed addresses only, and keeps them for reuse. One per process, shared by all threads.

    What is allowed is up to `AddressPolicy`, which has the same arguments. With `proxy`, a URL, all calls go through
    that HTTP proxy, and are pinned to its address; the proxy resolves names, so of providers only URLs are checked.
    `resolver` replaces the system's in tests.
    """

    def __init__(
        self,
        allowed_origins: tuple[str, ...] = (),
        allow_loopback: bool = False,
        *,
        own_port: int | None = None,
        proxy: str = "",
        resolver: "Resolver | None" = None,
    ) -> None:
        self._policy = AddressPolicy(allowed_origins, allow_loopback, own_port)
        self._proxy = Proxy.of_url(proxy) if proxy else None
        self._resolver = resolver
        self._lock = threading.Lock()
        self._idle: list[PinnedConnection] = []  # most recently used last

    def send(
        self,
        request: HttpRequest,
        *,
        cancel_token: CancelToken,
        limits: Limits,
        deadline: float | None = None,
        on_sent: Callable[[], object] = lambda: None,
    ) -> "Response":
        """Send a request and wait for the head of the response; the caller reads and closes it.

        `deadline` (in `time.monotonic` seconds) is when the body must have been read, by default now plus
        `limits.total_s`. `on_sent` is called when all is sent. Raises EgressError.
        """
        origin, target = self._policy.check_url(request.url)
        message = self._message(request, origin, target)
        if deadline is None:
            deadline = time.monotonic() + limits.total_s
        if (kept := self._take_idle(origin)) is not None:
            response = self._exchange(kept, message, cancel_token, limits, deadline, on_sent)
            if response is not None:
                return response
        connection = self._connect(origin, cancel_token, limits)
        response = self._exchange(connection, message, cancel_token, limits, deadline, on_sent)
        if response is None:  # a new connection never gives None
            raise Unreachable("The connection to the provider broke.")
        return response

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _exchange(
        self,
        connection: "PinnedConnection",
        message: Iterable[bytes],
        cancel_token: CancelToken,
        limits: Limits,
        deadline: float,
        on_sent: Callable[[], object],
    ) -> "Response | None":
        """Send and read the head; None if a reused connection broke before the first byte of the response."""
        from .response import Response

        response = Response(
            connection, cancel_token=cancel_token, limits=limits, deadline=deadline, give_back=self._give_back
        )
        try:
            cancel_token.shut_down_on_cancel(connection.sock)
            send_by = min(deadline, time.monotonic() + limits.first_byte_s)
            try:
                _send(connection, message, cancel_token, send_by)
            except Unreachable as broken:
                _read_early_head(response, broken)
            else:
                on_sent()
                response.read_head()
            # a tunnel's other end is the provider; without one the proxy itself may answer
            if response.status == 407 and self._proxy and connection.origin.scheme == "http":
                raise Unreachable(CREDENTIALS_REFUSED)
            return response
        except Unreachable:
            response.close()
            if connection.is_reused and not response.has_started:
                return None
            raise
        except BaseException:
            response.close()
            raise

    def _connect(self, origin: Origin, cancel_token: CancelToken, limits: Limits) -> "PinnedConnection":
        from . import connection as connections

        pinned: PinnedConnection
        if origin.scheme == "https":
            pinned = connections.PinnedTLSConnection(origin.host, origin.port, ssl_context=self._ssl_context)
        else:
            pinned = connections.PinnedConnection(origin.host, origin.port)
        pinned.origin, pinned.via = origin, self._proxy
        pinned.open(
            cancel_token,
            check=self._policy.check_addresses,
            resolver=self._resolver or connections.resolve,
            connect_s=limits.connect_s,
        )
        return pinned

    @cached_property
    def _ssl_context(self) -> "ssl.SSLContext":
        """Verifies against the system's trusted certificates; reading them takes 20 ms, so it is done once."""
        import ssl

        return ssl.create_default_context()

    def _message(self, request: HttpRequest, origin: Origin, target: str) -> Iterable[bytes]:
        """The request's bytes, in parts; an unencrypted one is for the proxy, where there is one."""
        if self._proxy is None or origin.scheme == "https":
            return _message(request, origin, target)
        for_proxy = replace(request, headers={**request.headers, **self._proxy.headers})
        return _message(for_proxy, origin, f"{origin.scheme}://{origin.authority}{target}")

    def _take_idle(self, origin: Origin) -> "PinnedConnection | None":
        """Take an idle connection that is still usable, as far as can be seen without sending anything."""
        while True:
            with self._lock:
                kept = next((one for one in reversed(self._idle) if one.origin == origin), None)
                if kept is None:
                    return None
                self._idle.remove(kept)
            # `is_connected` is False if it is readable: the peer closed it, or sends bytes that belong to no request
            if time.monotonic() - kept.idle_since < MAX_IDLE_S and kept.is_connected:
                kept.is_reused = True
                return kept
            kept.close()

    def _give_back(self, connection: "PinnedConnection") -> None:
        now = connection.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(connection)
            keep = [one for one in self._idle if now - one.idle_since < MAX_IDLE_S][-MAX_IDLE:]
            dropped = [one for one in self._idle if one not in keep] if len(keep) < len(self._idle) else []
            self._idle = keep
        for one in dropped:
            one.close()


def _message(request: HttpRequest, origin: Origin, target: str) -> Iterable[bytes]:
    """The request's bytes, in parts. Raises Failed for headers that can't be sent, without naming a value."""
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
            raise Failed(
                "A request header, such as the one with the key, contains characters that can't be sent."
            )
    head = "\r\n".join([*lines, "", ""]).encode()
    return [head + request.body] if isinstance(request.body, bytes) else _Parts(head, request.body)


class _Parts:
    """Head and body of a request, again from the beginning each time."""

    def __init__(self, head: bytes, body: Body) -> None:
        self._head, self._body = head, body

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        yield from self._body


def _read_early_head(response: "Response", broken: Unreachable) -> None:
    """Read the response of a server that has refused a large body before its end. Raises `broken` if there is none."""
    try:
        response.read_head()
    except EgressError:
        raise broken from None
    response.forbid_reuse()


def _send(
    connection: "PinnedConnection", message: Iterable[bytes], cancel_token: CancelToken, send_by: float
) -> None:
    """Send all parts until this moment (monotonic). What reading a part raises comes out as it is."""
    for part in message:
        _send_part(connection, part, cancel_token, send_by)


def _send_part(
    connection: "PinnedConnection", part: bytes, cancel_token: CancelToken, send_by: float
) -> None:
    try:
        connection.sock.settimeout(max(send_by - time.monotonic(), 0.001))
        connection.sock.sendall(part)
    except TimeoutError:
        cancel_token.check()
        raise TimedOut("The provider did not accept the request in time.") from None
    except (OSError, ValueError):
        cancel_token.check()
        raise Unreachable("The connection to the provider broke.") from None
