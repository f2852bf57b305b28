"""The operator's HTTP proxy: what is said to it before and instead of a provider."""

import re
import socket
import time
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

from .addresses import Origin, parse
from .cancellation import CancelToken
from .errors import Blocked, EgressError, TimedOut, Unreachable

MAX_HEAD_BYTES = 65536
SILENT = "The outgoing proxy did not answer in time."
BROKEN = "The connection to the outgoing proxy broke."
NOT_HTTP = "The outgoing proxy's answer is not HTTP."
CREDENTIALS_REFUSED = "The outgoing proxy does not accept this service's credentials (407)."

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where all outgoing calls go, and as whom."""

    origin: Origin
    authorization: str | None = field(default=None, repr=False)  # the value of Proxy-Authorization

    @classmethod
    def of_url(cls, url: str) -> Self:
        """The proxy at `http://[user:password@]host:port`. Raises Blocked if it is not such a URL."""
        parts = urlsplit(url)
        credentials, _, address = parts.netloc.rpartition("@")
        authorization = None
        if credentials:
            user, _, password = credentials.partition(":")
            authorization = "Basic " + b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        return cls(parse(f"{parts.scheme}://{address}")[0], authorization)

    @property
    def headers(self) -> dict[str, str]:
        """What it gets besides the request."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}

    def open_tunnel(
        self, sock: socket.socket, origin: Origin, cancel_token: CancelToken, deadline: float
    ) -> None:
        """Let the proxy connect this socket with an origin. Raises EgressError."""
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        authority = f"{host}:{origin.port}"
        fields = {"Host": authority, "User-Agent": "chat-api", **self.headers}
        lines = [f"CONNECT {authority} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        try:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            sock.sendall("\r\n".join([*lines, "", ""]).encode())
            head = _read_head(sock, deadline)
        except TimeoutError:
            cancel_token.check()
            raise TimedOut(SILENT) from None
        except OSError:
            cancel_token.check()
            raise Unreachable(BROKEN) from None
        cancel_token.check()
        status = _STATUS.match(head)
        if status is None:
            raise Unreachable(NOT_HTTP)
        if (refusal := refusal_of(int(status[1]))) is not None:  # which may come with a page that says why
            raise refusal
        if not head.endswith(b"\r\n\r\n"):  # the provider speaks after us
            raise Unreachable(NOT_HTTP)


def refusal_of(status: int) -> EgressError | None:
    """The error for a proxy's answer to CONNECT; None where the tunnel is open."""
    if 200 <= status < 300:
        return None
    if status == 407:
        return Unreachable(CREDENTIALS_REFUSED)
    if status in (403, 405):
        return Blocked(f"The outgoing proxy does not allow calls to this address ({status}).")
    return Unreachable(f"The outgoing proxy could not reach the provider ({status}).")


def _read_head(sock: socket.socket, deadline: float) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_HEAD_BYTES:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        received = sock.recv(4096)
        if not received:
            raise ConnectionError
        head += received
    return head
