"""Requests on their way to the thread worker: no thread begins with one before it is there.

A thread for each client that sends a byte now and then would be a cheap way to take all threads. So the event loop
receives the head of a request, and its body if that is small; what follows, a large body or one in chunks, the thread
itself waits for (`web/request_body.py`, `server/pace.py`).
"""

import re
import socket
from typing import Any

from ..web.request_body import SMALL_BODY_BYTES

MAX_HEAD_BYTES = 64 * 1024  # of a longer one the rest is left to the thread, which refuses most of them
ARRIVAL_S = 30  # for all of it
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,19})[ \t]*\r\n", re.IGNORECASE)
_COMES_LATER = re.compile(rb"\r\n(?:transfer-encoding|expect):", re.IGNORECASE)


class Arrival:
    """What has arrived of a connection's next request."""

    def __init__(self, already: bytes = b"") -> None:
        self.data = bytearray()
        self.has_ended = False
        self._size: int | None = None  # of all that has to be there; None as long as the head is not
        self._add(already)

    def receive(self, sock: socket.socket) -> None:
        """Take what is there. Raises OSError if the client has left."""
        try:
            received = sock.recv(SMALL_BODY_BYTES)
        except BlockingIOError:
            return
        self.has_ended = not received
        self._add(received)

    @property
    def is_complete(self) -> bool:
        """Whether a thread can begin with it: it will not wait, or not for what the event loop waits for."""
        limit = MAX_HEAD_BYTES if self._size is None else self._size
        return self.has_ended or len(self.data) >= limit

    def _add(self, received: bytes) -> None:
        searched = max(0, len(self.data) - len(_END_OF_HEAD))
        self.data += received
        if self._size is None and (end := self.data.find(_END_OF_HEAD, searched)) >= 0:
            self._size = _size(bytes(self.data[: end + len(_END_OF_HEAD)]))


def _size(head: bytes) -> int:
    """How much the event loop waits for: the head, and the body if it is small and comes without a question."""
    length = _LENGTH.search(head)
    if length is None or _COMES_LATER.search(head) or int(length[1]) > SMALL_BODY_BYTES:
        return len(head)
    return len(head) + int(length[1])


def take_buffered(connection: Any) -> bytes:
    """What gunicorn's parser has read beyond the request before."""
    data: bytes = connection.parser.unreader.take_buffered() if connection.initialized else b""
    return data
