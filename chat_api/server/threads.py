"""The thread worker, with mends: gunicorn's own waits for single clients in the loop that serves all."""

import selectors
import socket
import struct
import time
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from . import LINGER_BYTES, LINGER_S, STALLED_CLIENT_S
from .arrival import ARRIVAL_S, Arrival, take_buffered
from .pace import ClientSocket, ClientTooSlow
from .worker import ServiceWorker


class Worker(ServiceWorker, ThreadWorker):
    """A thread worker that never waits for one client in its event loop."""

    # additional busy threads only slow each other down; there are more, for those that wait for replies
    running_requests = 8

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arrivals: dict[Any, Arrival] = {}  # by connection
        self.lingering: dict[Any, int] = {}  # connection -> bytes it may still send; oldest first

    def enqueue_req(self, conn: Any) -> None:
        """Hand a connection to a thread as soon as its next request is there."""
        if not isinstance(conn.sock, ClientSocket):
            conn.sock = ClientSocket.taking_over(conn.sock)
            # of the kernel: they outlive the `setblocking(True)` of the stock worker, Python's would not
            limit = struct.pack("ll", STALLED_CLIENT_S, 0)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        conn.sock.setblocking(False)
        self.arrivals[conn] = Arrival(take_buffered(conn))
        if not self._receive(conn):
            conn.timeout = time.monotonic() + ARRIVAL_S
            self.pending_conns.append(conn)
            self.poller.register(
                conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn)
            )

    def on_pending_socket_readable(self, conn: Any, client: Any) -> None:
        """More of a request has arrived."""
        if self._receive(conn):
            self.poller.unregister(client)
            self.pending_conns.remove(conn)

    def _receive(self, conn: Any) -> bool:
        """Take what has arrived; whether the event loop has to wait for no more of it."""
        arrival = self.arrivals[conn]
        try:
            if not arrival.is_complete:
                arrival.receive(conn.sock)
        except OSError:
            arrival.data.clear()
            arrival.has_ended = True
        if not arrival.is_complete:
            return False
        del self.arrivals[conn]
        if arrival.data:
            conn.data_ready = True
            conn.init()
            conn.parser.unreader.unread(bytes(arrival.data))
            super().enqueue_req(conn)
        else:  # the client has left
            self.nr_conns -= 1
            conn.close()
        return True

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Serve a request, whose client has time of its own."""
        conn.sock.begin_request()
        return super().handle_request(req, conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Keep the connection, or close it without stopping the event loop.

        The stock worker waits here, in the only thread that accepts, up to 2 s for the client to close first:
        three clients that don't were enough to make the next one wait for 2 s. Here the poller waits.
        """
        if fs.cancelled() or fs.exception() or fs.result():
            super().finish_request(conn, fs)
            if (
                not self.alive and conn in self.keepalived_conns
            ):  # of the last seconds none is left for waiting
                conn.timeout = min(conn.timeout, self.deadline)
            return
        self.lingering[conn] = LINGER_BYTES
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.drain, conn))
            conn.timeout = time.monotonic() + LINGER_S
        except (OSError, ValueError):  # the client has gone, or the socket was closed after a broken response
            self.drop(conn)

    def drain(self, conn: Any, sock: Any) -> None:
        """Throw away what a closed connection still sends; unread bytes would cost the client its answer."""
        try:
            received = len(sock.recv(65536))
        except BlockingIOError:
            return
        except OSError:
            received = 0
        self.lingering[conn] -= received
        if not received or self.lingering[conn] <= 0:
            self.drop(conn)

    def drop(self, conn: Any) -> None:
        """Close a lingering connection for good."""
        del self.lingering[conn]
        try:
            self.poller.unregister(conn.sock)
        except (KeyError, ValueError):
            pass
        self.nr_conns -= 1
        conn.close()

    def set_accept_enabled(self, enabled: bool) -> None:
        """Stop listening as soon as the worker stops: who came now would wait in the queue, only to be reset."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                listener.close()

    def _cap_keepalive(self, deadline: float) -> None:
        """A stopping worker waits no longer for clients that have sent nothing yet than for kept connections."""
        deadline = min(deadline, self.deadline)
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def murder_pending(self) -> None:
        """Called in every round of the event loop: end what has lingered long enough."""
        while self.pending_conns and self.pending_conns[0].timeout <= time.monotonic():
            self._refuse_late(self.pending_conns.popleft())
        while self.lingering:
            oldest = next(iter(self.lingering))
            if oldest.timeout > time.monotonic():
                break
            self.drop(oldest)

    def _refuse_late(self, conn: Any) -> None:
        """Close a connection whose request has not arrived in time."""
        self.poller.unregister(conn.sock)
        if self.arrivals.pop(conn).data:
            self.handle_error(None, conn.sock, conn.client, ClientTooSlow("the request did not arrive"))
        self.nr_conns -= 1
        conn.close()
