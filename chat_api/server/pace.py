"""Clients that take their time: how long a request may wait for its client, and what happens beyond that.

A client may pause (GRACE_S in all), but over a whole body or a whole response it has to keep up with a minimum rate,
and there is a longest time for any of them. A limit for each single read or write alone would let it go on for ever,
with a byte every half a minute.
"""

import socket
import time
from typing import Any

GRACE_S = 10.0
SLICE_BYTES = 65536


class ClientTooSlow(TimeoutError):
    """A client that was waited for too long."""


class Pace:
    """The waits for a client in one direction, within one request."""

    bytes_per_s = 8192  # see gunicorn.conf.py
    longest_s = 3600.0

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._bytes = 0

    def note(self, began_s: float, size: int) -> None:
        """Note a wait since `began_s` (monotonic) that moved `size` bytes. Raises ClientTooSlow."""
        self._waited_s += time.monotonic() - began_s
        self._bytes += size
        if self._waited_s > min(GRACE_S + self._bytes / self.bytes_per_s, self.longest_s):
            raise ClientTooSlow(f"{self._bytes} bytes in {self._waited_s:.0f} s")


class PacedSocket:
    """Mixin for the sockets of both workers. Between two requests a client may wait, as long as it is let."""

    receiving: Pace | None = None
    sending: Pace | None = None

    def begin_request(self) -> None:
        """What is received and sent from now on belongs to another request, whose head has been read."""
        self.receiving, self.sending = Pace(), Pace()

    def end_request(self) -> None:
        """From now on nobody waits for the client but the one that waits for another request."""
        self.receiving = self.sending = None

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As a socket does. Raises ClientTooSlow."""
        began_s = time.monotonic()
        received: bytes = super().recv(size, flags)  # type: ignore[misc]
        if self.receiving:
            self.receiving.note(began_s, len(received))
        return received

    def sendall(self, data: Any, flags: int = 0) -> None:
        """In slices, each with the socket's whole timeout. Raises ClientTooSlow."""
        view = memoryview(data)
        while view:
            began_s = time.monotonic()
            sent: int = super().send(view[:SLICE_BYTES], flags)  # type: ignore[misc]
            view = view[sent:]
            if self.sending:
                self.sending.note(began_s, sent)


class ClientSocket(PacedSocket, socket.socket):
    """A connection of the thread worker."""

    @classmethod
    def taking_over(cls, accepted: socket.socket) -> "ClientSocket":
        """The same connection; `accepted` has none any more."""
        return cls(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
