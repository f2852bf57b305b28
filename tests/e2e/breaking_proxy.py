"""A TCP proxy whose connections break when a test says so: what a client sees of a lost network or a restart."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class BreakingProxy:
    """A context manager: listens on 127.0.0.1, a thread for each direction of a connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._is_over = False
        self.heads: list[str] = []  # the first line of each connection's first request
        self.refused = ""  # a request whose first line has this text gets 401, as with a ticket that is over

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = True
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break all connections."""
        broken, self._open = self._open, []
        for connection in broken:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            head = client.recv(65536)
            first_line = head.partition(b"\r\n")[0].decode("latin-1")
            self.heads.append(first_line)
            if self.refused and self.refused in first_line:
                client.sendall(UNAUTHORIZED)
                client.close()
                return
            service = socket.create_connection(("127.0.0.1", self._port))
            self._open += [client, service]
            if self._is_over:  # meanwhile
                self.cut()
                return
            service.sendall(head)
            threading.Thread(target=_copy, args=[client, service], daemon=True).start()
            _copy(service, client)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            target.sendall(content)
    for connection in (source, target):
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
