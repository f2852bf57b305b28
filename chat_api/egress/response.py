"""An answer as it comes in: its head, then its body piece by piece, within the limits.

The bytes are taken from the socket as the system has them, many chunks with one call; the standard library reads
the head, so that the rules of HTTP about where an answer ends are its own.
"""

import http.client
import io
import socket
import time
from collections.abc import Callable
from email.message import Message
from typing import TYPE_CHECKING, Self, cast

from .cancellation import CancelToken
from .errors import EgressError, Failed, TimedOut, Unreachable
from .limits import Limits

if TYPE_CHECKING:
    from .connection import Pinned

READ_BYTES = 65536
MAX_HEAD_BYTES = 65536
MAX_CHUNK_LINE_BYTES = 4096
MAX_INFORMATION_HEADS = 10
MORE_IS_WAITING_BYTES = READ_BYTES // 4
END_WAIT_S = 0.02

BROKEN = "The provider's answer broke off in the middle."


class Response:
    """One answer. `close` it in any case: only a connection whose answer was read to its end is used again."""

    status: int
    headers: Message

    def __init__(
        self,
        connection: "Pinned",
        *,
        cancel_token: CancelToken,
        limits: Limits,
        deadline: float,
        give_back: Callable[["Pinned"], None],
    ) -> None:
        self._connection, self._cancel_token, self._give_back = connection, cancel_token, give_back
        self._sock: socket.socket = connection.sock
        self._limits, self._deadline = limits, deadline
        self._first_byte_by = time.monotonic() + limits.first_byte_s
        self._timeout_s: float | None = None
        self._received_bytes = 0
        self._body_began = False
        self._is_fast = False
        self._last_arrival = 0.0
        self._last_size = 0
        self._is_closed = False

    @property
    def has_begun(self) -> bool:
        """Whether any byte came."""
        return self._received_bytes > 0

    def read_head(self) -> Self:
        """Wait for status and headers."""
        rest = b""
        for _ in range(MAX_INFORMATION_HEADS):
            head, rest = self._until_blank_line(rest)
            if head[:7] != b"HTTP/1." or head[9:10] != b"1":  # 1xx are followed by the answer itself
                break
        parsed = _parsed_head(head)
        self.status, self.headers = parsed.status, parsed.headers
        self._can_be_kept = not parsed.will_close
        self._framing = _framing_of(parsed)
        self._rest = rest
        return self

    def read(self, *, pace_s: float = 0) -> bytes:
        """The next piece of the body, empty at its end. Waits out `pace_s` since the last one if they come faster."""
        framing = self._framing
        while not framing.ended:
            if framing.is_garbled:  # not sooner: what came in front of it is good
                raise Failed("The provider's answer is garbled.")
            piece = self._rest or self._next_piece(pace_s)
            self._rest = b""
            if not piece:
                if framing.ends_with_connection:
                    framing.ended = True
                    break
                raise Unreachable(BROKEN)
            self._body_began = True
            if content := framing.feed(piece):
                return content
        return b""

    def read_all(self, max_bytes: int) -> bytes:
        """The body, or as much of it as the bound allows."""
        pieces, size = [], 0
        while size < max_bytes and (piece := self.read()):
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)[:max_bytes]

    def finish(self) -> None:
        """Read the end of a body of which everything that matters was read, if it is there or comes at once."""
        self._deadline = min(self._deadline, time.monotonic() + END_WAIT_S)
        try:
            while self.read():
                pass
        except EgressError:
            pass  # nothing is lost but the connection

    def close(self) -> None:
        """Give the connection back where the answer was read to its end, else close it. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._cancel_token.let_go()
        framing = getattr(self, "_framing", None)
        if framing is not None and framing.ended and not framing.has_surplus and self._can_be_kept:
            if not self._cancel_token.cancelled:
                self._give_back(self._connection)
                return
        self._connection.close()

    def _until_blank_line(self, received: bytes) -> tuple[bytes, bytes]:
        """The next head, and what came behind it."""
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > MAX_HEAD_BYTES:
                raise Failed("The provider sent headers without end.")
            piece = self._receive(time.monotonic())
            if not piece:
                raise Unreachable(
                    BROKEN if received else "The provider closed the connection without an answer."
                )
            received += piece
            if not b"HTTP/".startswith(received[:5]):
                raise Failed("The provider answered with something that is not HTTP.")
        return received[: end + 4], received[end + 4 :]

    def _next_piece(self, pace_s: float) -> bytes:
        """Receive, at the pace at which the provider sends or slower."""
        now = time.monotonic()
        has_slept = False
        if self._is_fast and self._last_size < MORE_IS_WAITING_BYTES:
            wait_s = self._last_arrival + pace_s - now
            if wait_s > 0:
                time.sleep(wait_s)
                has_slept = True
                now = time.monotonic()
        piece = self._receive(now)
        arrived_at = time.monotonic()
        # after a sleep something must have been there already, or else the provider is slow
        gap_s = arrived_at - (now if has_slept else self._last_arrival)
        self._is_fast = gap_s < (pace_s / 10 if has_slept else pace_s)
        self._last_arrival, self._last_size = arrived_at, len(piece)
        return piece

    def _receive(self, now: float) -> bytes:
        """What is there, or comes before the nearest limit."""
        if not self._body_began:
            timeout_s = min(self._first_byte_by, self._deadline) - now
        elif now + self._limits.idle_s <= self._deadline:
            timeout_s = self._limits.idle_s
        else:
            timeout_s = self._deadline - now
        if timeout_s <= 0:
            raise self._timed_out()
        if self._cancel_token.cancelled:
            self._cancel_token.check()
        try:
            if timeout_s != self._timeout_s:
                self._sock.settimeout(timeout_s)
                self._timeout_s = timeout_s
            piece = self._sock.recv(READ_BYTES)
        except TimeoutError:
            self._cancel_token.check()
            raise self._timed_out() from None
        except (OSError, ValueError):  # ValueError: TLS was ended by another thread
            self._cancel_token.check()
            raise Unreachable("The connection to the provider broke.") from None
        if self._cancel_token.cancelled:
            self._cancel_token.check()
        self._received_bytes += len(piece)
        if self._received_bytes > self._limits.run_bytes:
            raise Failed("The provider sent more than an answer may have.")
        return piece

    def _timed_out(self) -> TimedOut:
        if time.monotonic() >= self._deadline:
            return TimedOut("The provider took longer than a whole reply may take.")
        if not self._body_began:
            return TimedOut(f"The provider sent nothing within {self._limits.first_byte_s:g} seconds.")
        return TimedOut(f"The provider fell silent for {self._limits.idle_s:g} seconds.")


class _Sized:
    """A body whose length was announced, or that ends with the connection (None)."""

    has_surplus = is_garbled = False

    def __init__(self, size_bytes: int | None) -> None:
        self._left = size_bytes
        self.ended = size_bytes == 0
        self.ends_with_connection = size_bytes is None

    def feed(self, piece: bytes) -> bytes:
        """The content of what was received."""
        if self._left is None:
            return piece
        self.has_surplus = len(piece) > self._left
        content = piece[: self._left]
        self._left -= len(content)
        self.ended = self._left == 0
        return content


class _Chunked:
    """A body in chunks, which may be split anywhere."""

    ends_with_connection = False

    def __init__(self) -> None:
        self.ended = self.has_surplus = self.is_garbled = False
        self._left = 0  # of the chunk at hand, with the line end behind it
        self._line = b""  # the beginning of a line whose end has not come
        self._in_trailer = False

    def feed(self, piece: bytes) -> bytes:
        """The content of what was received."""
        contents, at = [], 0
        if self._line:
            piece, self._line = self._line + piece, b""
        while at < len(piece) and not (self.ended or self.is_garbled):
            if self._left:
                taken = min(self._left, len(piece) - at)
                content_bytes = min(taken, self._left - 2)
                if content_bytes > 0:
                    contents.append(piece[at : at + content_bytes])
                at, self._left = at + taken, self._left - taken
                continue
            end = piece.find(b"\n", at)
            if end < 0:
                self._line = piece[at:]
                self.is_garbled = len(self._line) > MAX_CHUNK_LINE_BYTES
                break
            self._read_line(piece[at:end])
            at = end + 1
        self.has_surplus = at < len(piece) and self.ended
        return contents[0] if len(contents) == 1 else b"".join(contents)

    def _read_line(self, line: bytes) -> None:
        """A chunk's size, or a trailer."""
        if self._in_trailer:
            self.ended = not line.rstrip(b"\r")
            return
        digits = line.split(b";", 1)[0].strip()
        if not (0 < len(digits) <= 16) or digits.strip(b"0123456789abcdefABCDEF"):
            self.is_garbled = True
            return
        size_bytes = int(digits, 16)
        self._in_trailer = size_bytes == 0
        self._left = size_bytes + 2 if size_bytes else 0


class _HeadOnly:
    """Shows the standard library a head as if it were a socket."""

    def __init__(self, head: bytes) -> None:
        self._head = head

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._head)


def _parsed_head(head: bytes) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(cast(socket.socket, _HeadOnly(head)))
    try:
        response.begin()
    except (http.client.HTTPException, ValueError):
        raise Failed("The provider answered with something that is not HTTP.") from None
    return response


def _framing_of(head: http.client.HTTPResponse) -> _Sized | _Chunked:
    return _Chunked() if head.chunked else _Sized(head.length)
