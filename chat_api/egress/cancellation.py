"""A running call, as the thread sees it that wants to end it."""

import socket
import threading
from collections.abc import Callable

from .errors import Cancelled


class CancelToken:
    """One running call, so that another thread can end it."""

    def __init__(self) -> None:
        # also held while a socket is closed: its number may belong to another connection right after
        self._lock = threading.Lock()
        self.cancelled = False  # for others to read only: they look at it with every piece that they receive
        self._end: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Close the connection, also while connecting or waiting; the generator then raises Cancelled. Idempotent."""
        with self._lock:
            self.cancelled = True
            if self._end is not None:
                self._end()
                self._end = None

    def check(self) -> None:
        """Raise Cancelled if `cancel` was called."""
        if self.cancelled:
            raise Cancelled("The call was cancelled.")

    def ends_by(self, end: Callable[[], None]) -> None:
        """From now on `cancel` calls `end`, which must not wait. Raises Cancelled if it was called before."""
        with self._lock:
            self.check()
            self._end = end

    def ends_by_shutting(self, sock: socket.socket) -> None:
        """From now on `cancel` shuts this socket down, which wakes whoever waits for it."""
        self.ends_by(lambda: _shut_down(sock))

    def let_go(self) -> None:
        """From now on `cancel` touches nothing: what `end` would end is about to be closed or lent to others."""
        with self._lock:
            self._end = None


def _shut_down(sock: socket.socket) -> None:
    try:
        # not TLS's own method: it would throw away the state that the reading thread is using
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass  # not connected yet, or no longer
