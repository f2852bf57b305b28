"""Connections for the gate: urllib3's, which connect to an address that was looked at and to no other.

Only the gate imports this, when it is first used: urllib3 and ssl take memory that an idle worker does not have.
"""

import socket
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from .addresses import IPAddress, Origin, literal
from .cancellation import CancelToken
from .errors import EgressError, TimedOut, Unreachable

# a name's addresses, as text; may raise OSError
Resolver = Callable[[str, int], list[str]]
# raises Blocked unless all of a host's addresses may be called
Check = Callable[[Origin, list[IPAddress]], None]

MAX_ADDRESSES = 8  # that are tried, of all that were checked


class Pinned(HTTPConnection):
    """A connection to one of the addresses that the check let pass; `call` can end it while it is made."""

    origin: Origin
    idle_since = 0.0
    is_reused = False
    _cancel_token: CancelToken
    _check: Check
    _resolver: Resolver
    _deadline: float

    def open(self, cancel_token: CancelToken, *, check: Check, resolver: Resolver, connect_s: float) -> None:
        """Connect. Raises Blocked, Unreachable, TimedOut or Cancelled; the connection is closed then."""
        self._cancel_token, self._check, self._resolver = cancel_token, check, resolver
        self._deadline = time.monotonic() + connect_s
        try:
            self.connect()
            cancel_token.ends_by_shutting(self.sock)
        except (OSError, HTTPError, ValueError) as error:
            self._give_up()
            raise self._reason(error) from None
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        self._cancel_token.let_go()
        self.close()

    def _reason(self, error: Exception) -> EgressError:
        """What the failure to connect is called."""
        try:
            self._cancel_token.check()
        except EgressError as cancelled:
            return cancelled
        if isinstance(error, TimeoutError):
            return TimedOut("The provider took no connection in time.")
        return Unreachable(f"The provider could not be reached: {_short(error)}.")

    def _new_conn(self) -> socket.socket:
        addresses = _addresses(self.origin, self._resolver, self._cancel_token, self._deadline)
        self._check(self.origin, addresses)
        return _connected(addresses[:MAX_ADDRESSES], self.origin.port, self._cancel_token, self._deadline)


class PinnedTLS(Pinned, HTTPSConnection):
    """The same with TLS. Server name and certificate are the host's, whatever address it has."""

    _during_handshake: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        # the handshake takes the socket over, so its number in the system is kept by a second one
        self._during_handshake = handshaking = sock.dup()
        self._cancel_token.ends_by_shutting(handshaking)
        sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
        return sock

    def connect(self) -> None:
        """Connect and shake hands."""
        try:
            super().connect()
        finally:
            if self._during_handshake is not None:
                self._cancel_token.let_go()
                self._during_handshake.close()
                self._during_handshake = None


def resolve(host: str, port: int) -> list[str]:
    """The system's resolver. May hang for as long as it likes."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


def _addresses(
    origin: Origin, resolver: Resolver, cancel_token: CancelToken, deadline: float
) -> list[IPAddress]:
    """All addresses of a host. A name is looked up in a thread of its own, since nobody can end a lookup."""
    if (address := literal(origin.host)) is not None:
        return [address]
    outcome: SimpleQueue[list[str] | OSError | None] = SimpleQueue()

    def look_up() -> None:
        try:
            outcome.put(resolver(origin.host, origin.port))
        except (OSError, UnicodeError):
            outcome.put(OSError("its name is not known"))

    cancel_token.ends_by(lambda: outcome.put(None))
    threading.Thread(target=look_up, name="look up provider", daemon=True).start()
    try:
        found = outcome.get(timeout=max(deadline - time.monotonic(), 0.001))
    except Empty:
        raise TimeoutError from None
    cancel_token.check()
    if isinstance(found, OSError):
        raise found
    if not found:
        raise OSError("its name has no address")
    addresses = [literal(text) for text in dict.fromkeys(found)]
    if None in addresses:
        raise OSError("its address can't be read")
    return [address for address in addresses if address is not None]


def _connected(
    addresses: list[IPAddress], port: int, cancel_token: CancelToken, deadline: float
) -> socket.socket:
    """A socket connected to the first address that answers; each gets its share of the time that is left."""
    failure: OSError = TimeoutError()
    for number, address in enumerate(addresses):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        sock = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(left / (len(addresses) - number))
            cancel_token.ends_by_shutting(sock)
            sock.connect((str(address), port))
            cancel_token.check()
            return sock
        except OSError as error:
            _abandon(sock, cancel_token)
            cancel_token.check()
            failure = error
        except BaseException:
            _abandon(sock, cancel_token)
            raise
    raise failure


def _abandon(sock: socket.socket, cancel_token: CancelToken) -> None:
    cancel_token.let_go()
    sock.close()


def _short(error: Exception) -> str:
    """The system's or OpenSSL's own words, which name no address."""
    text = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    text = text or getattr(error, "strerror", None) or str(error)
    return str(text).replace("_", " ").rstrip(".").lower()[:100] or "it broke"
