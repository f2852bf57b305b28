"""Cancellation of an outgoing call by another thread."""

import socket
import threading
from collections.abc import Callable

from .errors import Cancelled


class CancelToken:
    """Lets another thread end one running call."""

    def __init__(self) -> None:
        # also held while a socket is shut down: once closed, its descriptor may be reused by another connection
        self._lock = threading.Lock()
        self.cancelled = False  # read-only for callers, who poll it after each read
        self._callback: Callable[[], None] | None = None

    def cancel(self) -> None:
        """End the call, even while it connects or waits; it then raises Cancelled. Idempotent."""
        with self._lock:
            self.cancelled = True
            if self._callback is not None:
                self._callback()
                self._callback = None

    def check(self) -> None:
        """Raise Cancelled if `cancel` was called."""
        if self.cancelled:
            raise Cancelled("The call was cancelled.")

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Make `cancel` call `callback`, which must not block. Raises Cancelled if already cancelled."""
        with self._lock:
            self.check()
            self._callback = callback

    def shut_down_on_cancel(self, sock: socket.socket) -> None:
        """Make `cancel` shut this socket down, which wakes the thread that is blocked on it."""
        self.on_cancel(lambda: _shut_down(sock))

    def clear_callback(self) -> None:
        """Make `cancel` only set the flag: the socket is about to be closed or used by another call."""
        with self._lock:
            self._callback = None


def _shut_down(sock: socket.socket) -> None:
    try:
        # not SSLSocket.shutdown: it would discard the TLS state that the reading thread is using
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass  # not connected yet, or no longer
