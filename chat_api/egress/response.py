"""A response as it arrives: its head, then its body read by read, within the limits.

Bytes are read from the socket as they arrive, several chunks per call; the standard library parses the head, so the
HTTP rules for where a body ends are its own.
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
    from .connection import PinnedConnection

READ_BYTES = 65536
MAX_HEAD_BYTES = 65536
MAX_CHUNK_LINE_BYTES = 4096
# A chunk of one byte takes six on the wire and as long as a large one. In reads whose chunks are smaller than this on
# average so many are taken in a whole response.
SMALL_CHUNK_BYTES = 16
MAX_SMALL_CHUNKS = 100_000
MAX_INFORMATION_HEADS = 10
MORE_IS_WAITING_BYTES = READ_BYTES // 4
END_WAIT_S = 0.02

INVALID_CHUNKS = "invalid chunked encoding"
BROKEN = "The provider's response broke off."


class Response:
    """One response. Always `close` it: only a connection whose response was read to its end is reused."""

    status: int
    headers: Message

    def __init__(
        self,
        connection: "PinnedConnection",
        *,
        cancel_token: CancelToken,
        limits: Limits,
        deadline: float,
        give_back: Callable[["PinnedConnection"], None],
    ) -> None:
        self._connection, self._cancel_token, self._give_back = connection, cancel_token, give_back
        self._sock: socket.socket = connection.sock
        self._limits, self._deadline = limits, deadline
        self._first_byte_by = time.monotonic() + limits.first_byte_s
        self._timeout_s: float | None = None
        self._received_bytes = 0
        self._body_started = False
        self._is_fast = False
        self._last_arrival = 0.0
        self._last_size = 0
        self._is_closed = False

    @property
    def has_started(self) -> bool:
        """Whether any byte was received."""
        return self._received_bytes > 0

    def read_head(self) -> Self:
        """Wait for status and headers."""
        rest = b""
        for _ in range(MAX_INFORMATION_HEADS):
            head, rest = self._read_until_blank_line(rest)
            if head[:7] != b"HTTP/1." or head[9:10] != b"1":  # a 1xx is followed by the final response
                break
        parsed = _parse_head(head)
        self.status, self.headers = parsed.status, parsed.headers
        self._can_be_kept = not parsed.will_close
        self._framing = _framing_of(parsed)
        self._rest = rest
        return self

    def read(self, *, pace_s: float = 0) -> bytes:
        """The next bytes of the body, empty at its end. Reads a fast body at most once in `pace_s` seconds."""
        framing = self._framing
        while not framing.ended:
            if framing.fault:  # checked late, so that what came before it is still delivered
                raise Failed(f"The provider's response is malformed ({framing.fault}).")
            received = self._rest or self._receive_paced(pace_s)
            self._rest = b""
            if not received:
                if framing.ends_with_connection:
                    framing.ended = True
                    break
                raise Unreachable(BROKEN)
            self._body_started = True
            if content := framing.feed(received):
                return content
        return b""

    def read_all(self, max_bytes: int) -> bytes:
        """The body, truncated to `max_bytes`."""
        parts, size = [], 0
        while size < max_bytes and (received := self.read()):
            parts.append(received)
            size += len(received)
        return b"".join(parts)[:max_bytes]

    def finish(self) -> None:
        """Read the end of the body if it comes at once, so that the connection can be reused."""
        self._deadline = min(self._deadline, time.monotonic() + END_WAIT_S)
        try:
            while self.read():
                pass
        except EgressError:
            pass  # only the reuse of the connection is lost

    def forbid_reuse(self) -> None:
        """Let the connection be closed in any case: not all of the request was sent."""
        self._can_be_kept = False

    def close(self) -> None:
        """Give the connection back if the response was read to its end, else close it. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._cancel_token.clear_callback()
        framing = getattr(self, "_framing", None)
        if framing is not None and framing.ended and not framing.has_surplus and self._can_be_kept:
            if not self._cancel_token.cancelled:
                self._give_back(self._connection)
                return
        self._connection.close()

    def _read_until_blank_line(self, head: bytes) -> tuple[bytes, bytes]:
        """The next head, and the bytes received after it."""
        searched = 0
        while (end := head.find(b"\r\n\r\n", max(searched - 3, 0))) < 0:
            searched = len(head)
            if len(head) > MAX_HEAD_BYTES:
                raise Failed("The provider sent too many headers.")
            received = self._receive(time.monotonic())
            if not received:
                raise Unreachable(
                    BROKEN if head else "The provider closed the connection without a response."
                )
            head += received
            if not b"HTTP/".startswith(head[:5]):
                raise Failed("The provider's response is not HTTP.")
        return head[: end + 4], head[end + 4 :]

    def _receive_paced(self, pace_s: float) -> bytes:
        """Receive, waiting first if the provider has been sending faster than every `pace_s` seconds."""
        now = time.monotonic()
        has_slept = False
        if self._is_fast and self._last_size < MORE_IS_WAITING_BYTES:
            wait_s = self._last_arrival + pace_s - now
            if wait_s > 0:
                time.sleep(wait_s)
                has_slept = True
                now = time.monotonic()
        received = self._receive(now)
        arrived_at = time.monotonic()
        # after a sleep, bytes must have been waiting already; otherwise the provider is slow
        gap_s = arrived_at - (now if has_slept else self._last_arrival)
        self._is_fast = gap_s < (pace_s / 10 if has_slept else pace_s)
        self._last_arrival, self._last_size = arrived_at, len(received)
        return received

    def _receive(self, now: float) -> bytes:
        """The bytes that are there, or that arrive before the nearest time limit."""
        if not self._body_started:
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
            received = self._sock.recv(READ_BYTES)
        except TimeoutError:
            self._cancel_token.check()
            raise self._timed_out() from None
        except (OSError, ValueError):  # ValueError: another thread shut TLS down
            self._cancel_token.check()
            raise Unreachable("The connection to the provider broke.") from None
        if self._cancel_token.cancelled:
            self._cancel_token.check()
        self._received_bytes += len(received)
        if self._received_bytes > self._limits.response_bytes:
            raise Failed("The provider's response is larger than the limit.")
        return received

    def _timed_out(self) -> TimedOut:
        if time.monotonic() >= self._deadline:
            return TimedOut("The provider took longer than the limit for a whole reply.")
        if not self._body_started:
            return TimedOut(f"The provider sent nothing within {self._limits.first_byte_s:g} seconds.")
        return TimedOut(f"The provider was silent for {self._limits.idle_s:g} seconds.")


class _Sized:
    """A body of a known length, or one that ends with the connection (None)."""

    has_surplus = False
    fault = ""

    def __init__(self, size_bytes: int | None) -> None:
        self._remaining = size_bytes
        self.ended = size_bytes == 0
        self.ends_with_connection = size_bytes is None

    def feed(self, received: bytes) -> bytes:
        """The content in the received bytes."""
        if self._remaining is None:
            return received
        self.has_surplus = len(received) > self._remaining
        content = received[: self._remaining]
        self._remaining -= len(content)
        self.ended = self._remaining == 0
        return content


class _Chunked:
    """A body in chunks, which may be split anywhere."""

    ends_with_connection = False

    def __init__(self) -> None:
        self.ended = self.has_surplus = False
        self.fault = ""  # what is wrong with it
        self._small_chunks = self._trailer_bytes = 0
        self._remaining = 0  # bytes of the current chunk and of the line end after it
        self._line = b""  # an incomplete line
        self._in_trailer = False

    def feed(self, received: bytes) -> bytes:
        """The content in the received bytes."""
        contents, at = [], 0
        if self._line:
            received, self._line = self._line + received, b""
        while at < len(received) and not (self.ended or self.fault):
            if self._remaining:
                taken = min(self._remaining, len(received) - at)
                content_bytes = min(taken, self._remaining - 2)
                if content_bytes > 0:
                    contents.append(received[at : at + content_bytes])
                at, self._remaining = at + taken, self._remaining - taken
                continue
            end = received.find(b"\n", at)
            if end < 0:
                self._line = received[at:]
                if len(self._line) > MAX_CHUNK_LINE_BYTES:
                    self.fault = INVALID_CHUNKS
                break
            self._read_line(received[at:end])
            at = end + 1
        self.has_surplus = at < len(received) and self.ended
        if len(contents) == 1:  # costs no more than the read
            return contents[0]
        content = b"".join(contents)
        if len(contents) * SMALL_CHUNK_BYTES > len(content):
            self._small_chunks += len(contents)
            if self._small_chunks > MAX_SMALL_CHUNKS:
                self.fault = "too many tiny chunks"
        return content

    def _read_line(self, line: bytes) -> None:
        """Read a chunk size, or a trailer."""
        if self._in_trailer:
            self.ended = not line.rstrip(b"\r")
            self._trailer_bytes += len(line) + 1
            if self._trailer_bytes > MAX_HEAD_BYTES:
                self.fault = "too many trailers"
            return
        digits = line.split(b";", 1)[0].strip()
        if not (0 < len(digits) <= 16) or digits.strip(b"0123456789abcdefABCDEF"):
            self.fault = INVALID_CHUNKS
            return
        size_bytes = int(digits, 16)
        self._in_trailer = size_bytes == 0
        self._remaining = size_bytes + 2 if size_bytes else 0


class _HeadOnly:
    """Presents a head to the standard library as if it were a socket."""

    def __init__(self, head: bytes) -> None:
        self._head = head

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._head)


def _parse_head(head: bytes) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(cast(socket.socket, _HeadOnly(head)))
    try:
        response.begin()
    except (http.client.HTTPException, ValueError):
        raise Failed("The provider's response is not HTTP.") from None
    return response


def _framing_of(head: http.client.HTTPResponse) -> _Sized | _Chunked:
    return _Chunked() if head.chunked else _Sized(head.length)
