"""An HTTP proxy for tests: CONNECT and absolute-form requests, with names of its own and with credentials.

with Proxy(names={"api.example.com": ("127.0.0.1", port)}, credentials="ada:secret") as proxy:
    Gate(proxy=proxy.url)
    proxy.requests      # (method, target, headers) of each request that it got
"""

import socket
import threading
from base64 import b64encode
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

Address = tuple[str, int]


class Proxy:
    """A context manager: listens on 127.0.0.1, two threads for each connection."""

    def __init__(
        self,
        names: Mapping[str, Address] | None = None,
        credentials: str = "",
        answer: bytes | None = None,
    ) -> None:
        """`names` are hosts that it knows; `answer` is said to every request instead of what belongs there."""
        self._names, self._credentials, self._answer = dict(names or {}), credentials, answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """Its URL with the credentials that it wants."""
        user, _, password = self._credentials.partition(":")
        prefix = f"{quote(user, safe='')}:{quote(password, safe='')}@" if self._credentials else ""
        return f"http://{prefix}127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for sock in (self._listener, *self._open):
            _end(sock)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        upstream: socket.socket | None = None
        rest = b""
        try:
            while True:
                head, rest = _read_head(client, rest)
                method, target, headers = _parsed(head)
                self.requests.append((method, target, headers))
                if (refusal := self._refusal(headers)) is not None:
                    client.sendall(refusal)
                    break
                if method == "CONNECT":
                    host, _, port = target.rpartition(":")
                    upstream = self._connect(host, int(port))
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n" + rest)
                    threading.Thread(target=_pump, args=(upstream, client), daemon=True).start()
                    _pump(client, upstream)
                    return
                parts = urlsplit(target)
                if upstream is None:
                    upstream = self._connect(parts.hostname or "", parts.port or 80)
                    threading.Thread(target=_pump, args=(upstream, client), daemon=True).start()
                path = parts._replace(scheme="", netloc="").geturl()
                body, rest = _read_body(client, rest, int(headers.get("content-length", 0)))
                upstream.sendall(_forwarded(method, path, head) + body)
        except (OSError, ValueError):
            pass  # the client has closed it, or nobody is there
        for sock in (client, upstream):
            if sock is not None:
                _end(sock)

    def _refusal(self, headers: Mapping[str, str]) -> bytes | None:
        expected = "Basic " + b64encode(self._credentials.encode()).decode()
        if self._credentials and headers.get("proxy-authorization") != expected:
            return b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        return self._answer

    def _connect(self, host: str, port: int) -> socket.socket:
        upstream = socket.create_connection(self._names.get(host, (host, port)), timeout=10)
        self._open.append(upstream)
        return upstream


def _read_head(sock: socket.socket, received: bytes) -> tuple[bytes, bytes]:
    while b"\r\n\r\n" not in received:
        received += _receive(sock)
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def _read_body(sock: socket.socket, received: bytes, size: int) -> tuple[bytes, bytes]:
    while len(received) < size:
        received += _receive(sock)
    return received[:size], received[size:]


def _receive(sock: socket.socket) -> bytes:
    if not (received := sock.recv(65536)):
        raise OSError
    return received


def _parsed(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ", 2)
    fields = (line.partition(":") for line in lines)
    return method, target, {name.lower(): value.strip() for name, _, value in fields}


def _forwarded(method: str, path: str, head: bytes) -> bytes:
    """The request as the provider gets it: without what was meant for the proxy."""
    lines = [line for line in head.split(b"\r\n")[1:] if not line.lower().startswith(b"proxy-")]
    return b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *lines, b"", b""])


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while received := source.recv(65536):
            sink.sendall(received)
    except OSError:
        pass  # one of them has closed it
    _end(source)
    _end(sink)


def _end(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has been closed already
    sock.close()
