"""The gevent worker: a greenlet for each connection, for a service that holds very many streams."""

import time
from typing import Any

from gevent import Timeout, socket
from gunicorn.workers.ggevent import GeventWorker

from . import LINGER_BYTES, LINGER_S, STALLED_CLIENT_S
from .pace import PacedSocket
from .worker import ServiceWorker


class Connection(PacedSocket, socket.socket):
    """A client's connection. Its timeout counts from the last progress, and its end loses no answer."""

    @classmethod
    def taking_over(cls, accepted: socket.socket) -> "Connection":
        """The same connection; `accepted` has none any more."""
        family, kind, protocol = accepted.family, accepted.type, accepted.proto
        return cls(family, kind, protocol, fileno=accepted.detach())

    def end_input(self) -> None:
        """Let a pending read find the end of the client's input, after what has already arrived. gevent's own
        `shutdown` would raise in it."""
        try:
            self._sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # the client has gone

    def close(self) -> None:
        """Let the client close first for a while: bytes that nobody has read would cost it its answer."""
        try:
            with Timeout(LINGER_S, False):
                self.shutdown(socket.SHUT_WR)
                left = LINGER_BYTES
                while left > 0 and (received := len(self.recv(65536))):
                    left -= received
        except OSError:
            pass  # the client has gone
        finally:
            super().close()


class Worker(ServiceWorker, GeventWorker):
    """A gevent worker that bounds the wait for a client and lets go of idle connections when it stops."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: set[Connection] = set()  # between two requests
        self._stopping_since: float | None = None

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve a connection to its end."""
        connection = Connection.taking_over(client)
        self._idle.add(connection)
        try:
            super().handle(listener, connection, addr)
        finally:
            self._idle.discard(connection)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Serve a request, waiting STALLED_CLIENT_S for its client; between requests it is KEEPALIVE_S."""
        self._idle.discard(sock)
        sock.settimeout(STALLED_CLIENT_S)
        sock.begin_request()
        super().handle_request(listener_name, req, sock, addr)
        sock.end_request()
        sock.settimeout(None)
        self._idle.add(sock)

    def notify(self) -> None:
        """Called every second. A stopping worker lets go of idle connections: the stock one keeps each, and
        itself, for KEEPALIVE_S. They have a second for a request that is already on its way."""
        super().notify()
        if self.alive:
            return
        self._stopping_since = self._stopping_since or time.monotonic()
        if time.monotonic() - self._stopping_since >= 1:
            for connection in self._idle:
                connection.end_input()
