"""Connections of the gate: urllib3's, but pinned to an address that was checked before connecting.

Only the gate imports this, on first use: urllib3 and ssl take memory that an idle worker does not need.
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from queue import Empty, SimpleQueue

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from .addresses import IPAddress, Origin, parse_address
from .cancellation import CancelToken
from .errors import EgressError, TimedOut, Unreachable
from .proxy import Proxy

# resolves a name to addresses as text; may raise OSError
Resolver = Callable[[str, int], list[str]]
# raises Blocked unless all of a host's addresses may be called
Check = Callable[[Origin, list[IPAddress]], None]

MAX_ADDRESSES = 8  # to try; all of a host's addresses are checked
# A lookup can't be ended: where a name server does not respond, its thread outlives the call by up to a minute. So
# their number is limited, and so is that of lookups of names whose last two labels are the same.
MAX_LOOKUPS = 64
MAX_LOOKUPS_PER_DOMAIN = 8


class PinnedConnection(HTTPConnection):
    """A connection to an address that passed the check; the cancel token can end it while it is being made."""

    origin: Origin
    via: Proxy | None = None  # the operator's proxy, whose address is connected to instead
    idle_since = 0.0
    is_reused = False
    _cancel_token: CancelToken
    _check: Check
    _resolver: Resolver
    _deadline: float

    def open(self, cancel_token: CancelToken, *, check: Check, resolver: Resolver, connect_s: float) -> None:
        """Connect. Raises Blocked, Unreachable, TimedOut or Cancelled, and closes the connection then."""
        self._cancel_token, self._check, self._resolver = cancel_token, check, resolver
        self._deadline = time.monotonic() + connect_s
        try:
            self.connect()
            cancel_token.shut_down_on_cancel(self.sock)
        except (OSError, HTTPError, ValueError) as error:
            self._give_up()
            raise self._error_of(error) from None
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        self._cancel_token.clear_callback()
        self.close()

    def _error_of(self, error: Exception) -> EgressError:
        """The error to raise for a failure to connect."""
        try:
            self._cancel_token.check()
        except EgressError as cancelled:
            return cancelled
        if isinstance(error, TimeoutError):
            return TimedOut("The provider did not accept a connection in time.")
        return Unreachable(f"The provider could not be reached: {_system_message(error)}.")

    def _new_conn(self) -> socket.socket:
        if self.via is not None:
            return self._connect_through(self.via)
        addresses = _resolve(self.origin, self._resolver, self._cancel_token, self._deadline)
        self._check(self.origin, addresses)
        return _connect_to_any(
            addresses[:MAX_ADDRESSES], self.origin.port, self._cancel_token, self._deadline
        )

    def _connect_through(self, proxy: Proxy) -> socket.socket:
        """A socket connected to the proxy or, where the call is encrypted, through it to the provider."""
        try:
            addresses = _resolve(proxy.origin, self._resolver, self._cancel_token, self._deadline)
            sock = _connect_to_any(
                addresses[:MAX_ADDRESSES], proxy.origin.port, self._cancel_token, self._deadline
            )
        except TimeoutError:
            raise TimedOut("The outgoing proxy did not accept a connection in time.") from None
        except OSError as error:
            self._cancel_token.check()
            raise Unreachable(f"The outgoing proxy could not be reached: {_system_message(error)}.") from None
        if self.origin.scheme == "https":
            try:
                proxy.open_tunnel(sock, self.origin, self._cancel_token, self._deadline)
            except BaseException:
                _discard(sock, self._cancel_token)
                raise
        return sock


class PinnedTLSConnection(PinnedConnection, HTTPSConnection):
    """The same with TLS. Server name and certificate check use the host name, not the address."""

    _duplicate: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        # the handshake detaches the socket, so a duplicate keeps its descriptor open for `cancel`
        self._duplicate = duplicate = sock.dup()
        self._cancel_token.shut_down_on_cancel(duplicate)
        sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
        return sock

    def connect(self) -> None:
        """Connect and do the TLS handshake."""
        try:
            super().connect()
        finally:
            if self._duplicate is not None:
                self._cancel_token.clear_callback()
                self._duplicate.close()
                self._duplicate = None


def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver, which may block for any length of time."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in entries]


class _Lookups:
    """Counts the lookups in progress in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()  # by domain

    def begin(self, domain: str) -> None:
        """Count one more. Raises OSError beyond the limits."""
        with self._lock:
            is_full = self._running.total() >= MAX_LOOKUPS
            if is_full or self._running[domain] >= MAX_LOOKUPS_PER_DOMAIN:
                raise OSError("too many lookups of names are waiting for a name server")
            self._running[domain] += 1

    def end(self, domain: str) -> None:
        """Count one less."""
        with self._lock:
            self._running[domain] -= 1
            if not self._running[domain]:
                del self._running[domain]


_lookups = _Lookups()


def _resolve(
    origin: Origin, resolver: Resolver, cancel_token: CancelToken, deadline: float
) -> list[IPAddress]:
    """All addresses of a host. A name is resolved in a separate thread, because a lookup can't be cancelled."""
    if (address := parse_address(origin.host)) is not None:
        return [address]
    outcome: SimpleQueue[list[str] | OSError | None] = SimpleQueue()
    domain = ".".join(origin.host.rstrip(".").split(".")[-2:])

    def look_up() -> None:
        try:
            outcome.put(resolver(origin.host, origin.port))
        except (OSError, UnicodeError):
            outcome.put(OSError("its name could not be resolved"))
        finally:
            _lookups.end(domain)

    cancel_token.on_cancel(lambda: outcome.put(None))
    _lookups.begin(domain)
    try:
        threading.Thread(target=look_up, name="look up provider", daemon=True).start()
    except RuntimeError:  # the system gives no more threads
        _lookups.end(domain)
        raise OSError("its name could not be resolved") from None
    try:
        found = outcome.get(timeout=max(deadline - time.monotonic(), 0.001))
    except Empty:
        raise TimeoutError from None
    cancel_token.check()
    if isinstance(found, OSError):
        raise found
    if not found:
        raise OSError("its name has no address")
    addresses = [parse_address(text) for text in dict.fromkeys(found)]
    if None in addresses:
        raise OSError("one of its addresses is malformed")
    return [address for address in addresses if address is not None]


def _connect_to_any(
    addresses: list[IPAddress], port: int, cancel_token: CancelToken, deadline: float
) -> socket.socket:
    """A socket connected to the first address that accepts; each gets an equal share of the remaining time."""
    failure: OSError = TimeoutError()
    for number, address in enumerate(addresses):
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            break
        sock = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(remaining_s / (len(addresses) - number))
            cancel_token.shut_down_on_cancel(sock)
            sock.connect((str(address), port))
            cancel_token.check()
            return sock
        except OSError as error:
            _discard(sock, cancel_token)
            cancel_token.check()
            failure = error
        except BaseException:
            _discard(sock, cancel_token)
            raise
    raise failure


def _discard(sock: socket.socket, cancel_token: CancelToken) -> None:
    cancel_token.clear_callback()
    sock.close()


def _system_message(error: Exception) -> str:
    """The message of the system or of OpenSSL, which names no address."""
    text = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    text = text or getattr(error, "strerror", None) or str(error)
    return str(text).replace("_", " ").rstrip(".").lower()[:100] or "the connection broke"
