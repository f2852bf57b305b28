"""Files in a provider's response, as Base64 in its JSON: read block by block, the long ones decoded while they arrive.

Anything else of a reply has a limit, and a string that is longer than that and has nothing but the characters of Base64
in it is a file. So the first part of such a run goes on to the parser, up to that limit, and what follows is decoded to
a temporary file at once. In its place the parser finds a mark that no provider can know.
"""

import re
import secrets
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO

BLOCK_CHARACTERS = 64 * 1024  # a multiple of four
BLOCK_BYTES = 64 * 1024
MIN_INLINE_BYTES = 512 * 1024  # twice what is kept for the provider itself, see provider_state
MAX_INLINE_BYTES = 16 * 1024 * 1024  # of all shorter files of one response, beside its limit for all else
TOO_LARGE = "it is too large"
BROKEN = "its content is broken"
NO_SPACE = "there was no space for it"

_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_MAY_GO_ON = frozenset(_CHARACTERS + b"\\")
# some servers write a slash as \/, a plus sign as \u002B and an equals sign as \u003D
_RUN = re.compile(rb"(?:[A-Za-z0-9+/=]++|\\/|\\u00(?:2[bBfF]|3[dD]))*+")
_ESCAPE = re.compile(rb"\\(?:/|u00(?:2[bBfF]|3[dD]))")
_CUT_ESCAPE = re.compile(rb"\\(?:u(?:0(?:0[23]?)?)?)?\Z")
_LONGEST_ESCAPE = 6
_SPACE = str.maketrans("-_", "+/", " \t\r\n")


class Unreadable(Exception):
    """The content of a file that the model made can't be read. The message says why."""


class Decoder:
    """Base64 that comes in pieces, cut anywhere, or each with a padding of its own."""

    def __init__(self) -> None:
        self._carry = ""

    def blocks(self, text: str, begin: int, end: int) -> Iterator[bytes]:
        """The bytes of a part of a text, which is never copied as a whole. Raises Unreadable."""
        for start in range(begin, end, BLOCK_CHARACTERS):
            yield self._decoded(text[start : min(start + BLOCK_CHARACTERS, end)])

    def rest(self) -> Iterator[bytes]:
        """What is left at the end: the padding may be missing."""
        carry, self._carry = self._carry, ""
        if carry:
            yield _decoded((carry + "=" * (-len(carry) % 4)).encode())

    def _decoded(self, piece: str) -> bytes:
        text = self._carry + piece.translate(_SPACE)
        whole = len(text) - len(text) % 4
        text, self._carry = text[:whole], text[whole:]
        try:
            content = text.encode("ascii")
        except UnicodeEncodeError:
            raise Unreadable(BROKEN) from None
        if 0 <= content.find(b"=") < len(content) - 2:
            return b"".join(map(_decoded, re.findall(rb"[^=]+=*", content)))
        return _decoded(content)


def _decoded(content: bytes) -> bytes:
    try:
        return a2b_base64(content)
    except NotBase64:
        raise Unreadable(BROKEN) from None


class LongContent:
    """The rest of a long file, decoded to a temporary file."""

    def __init__(self, file: IO[bytes] | None, max_bytes: int) -> None:
        self._file, self._left = file, max_bytes
        self._carry = b""
        self.problem = "" if file else NO_SPACE

    def write(self, text: bytes) -> None:
        """Take the next characters."""
        if self.problem or self._file is None:
            return
        text = self._carry + text
        whole = len(text) - len(text) % 4
        text, self._carry = text[:whole], text[whole:]
        try:
            content = _decoded(text)
            self._left -= len(content)
            if self._left < 0:
                raise Unreadable(TOO_LARGE)
            self._file.write(content)
        except Unreadable as error:
            self.problem = str(error)
        except OSError:
            self.problem = NO_SPACE

    def end(self) -> None:
        """Take what is left: the padding may be missing."""
        if self._carry:
            self.write(b"=" * (-len(self._carry) % 4))

    def blocks(self) -> Iterator[bytes]:
        """The bytes. Raises Unreadable."""
        if self.problem or self._file is None:
            raise Unreadable(self.problem)
        try:
            self._file.seek(0)
            while block := self._file.read(BLOCK_BYTES):
                yield block
        except OSError:
            raise Unreadable(NO_SPACE) from None

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            with suppress(OSError):  # a failed write has been noted already
                self._file.close()


class LongRuns:
    """Takes the bytes of one response and returns them without what is decoded to files."""

    def __init__(self, *, open_file: Callable[[], IO[bytes]], reply_bytes: int, file_bytes: int) -> None:
        """`open_file` makes a temporary file, or raises OSError; no content of more than `file_bytes` is decoded."""
        self._open_file, self._file_bytes = open_file, file_bytes
        self._inline = max(reply_bytes, MIN_INLINE_BYTES)
        self._mark = f"#{secrets.token_hex(16)}:"
        self._mark_length = len(self._mark) + 7
        self._contents: list[LongContent] = []
        self._length = 0  # of the run at the end of what came, in characters of Base64
        self._is_long = False  # whether it goes to the last of the contents
        self._held = b""  # the beginning of an escape
        self._inline_bytes = 0

    @property
    def inline_bytes(self) -> int:
        """How many bytes of files the parser gets, which its limits need not count."""
        return min(self._inline_bytes, MAX_INLINE_BYTES)

    def feed(self, received: bytes) -> bytes:
        """The same bytes for the parser, without the rest of a long run, in whose place a mark comes."""
        if not self._length and not self._held and received and received[-1] not in _MAY_GO_ON:
            return received  # as nearly always: no run goes on, and one within a read is not long
        received, self._held = self._held + received, b""
        if cut := _CUT_ESCAPE.search(received, max(0, len(received) - _LONGEST_ESCAPE)):
            received, self._held = received[: cut.start()], received[cut.start() :]
        passed = b""
        if self._length:
            end = self._end_of_run(received)
            passed = self._take(received[:end])
            received = received[end:]
            if not received:
                return passed
            passed += self._end()
        self._length = len(_unescaped(received[_begin_of_last_run(received) :]))
        return passed + received

    def rest(self) -> bytes:
        """What was held back until the end of the response."""
        held, self._held = self._held, b""
        return held

    def close(self) -> None:
        """Delete the files."""
        for content in self._contents:
            content.close()

    def content_at(self, text: str, end: int) -> tuple[int, LongContent | None]:
        """Where the characters of a content end that ends here in a parsed string, and what follows them in a file."""
        begin = end - self._mark_length
        if begin < 0 or not text.startswith(self._mark, begin):
            return end, None
        return begin, self._contents[int(text[begin + len(self._mark) : end - 1])]

    @staticmethod
    def _end_of_run(received: bytes) -> int:
        found = _RUN.match(received)
        return found.end() if found else 0

    def _take(self, run: bytes) -> bytes:
        """Take more of a run; what of it goes to the parser."""
        text = _unescaped(run)
        if not self._is_long:
            before, kept = self._length, -self._length % 4
            self._length += len(text)
            if before < self._inline or len(text) <= kept:
                self._inline_bytes += len(run)
                return run
            self._is_long = True
            self._contents.append(LongContent(self._new_file(), self._file_bytes))
            self._contents[-1].write(text[kept:])
            return text[:kept]
        self._contents[-1].write(text)
        return b""

    def _end(self) -> bytes:
        """End the run; the mark, if there is to be one."""
        self._length = 0
        if not self._is_long:
            return b""
        self._is_long = False
        self._contents[-1].end()
        return f"{self._mark}{len(self._contents) - 1:06d}#".encode()

    def _new_file(self) -> IO[bytes] | None:
        try:
            return self._open_file()
        except OSError:
            return None


def _begin_of_last_run(received: bytes) -> int:
    """Where the run begins that these bytes end with; their length where they end with none."""
    begin = len(received.rstrip(_CHARACTERS))
    while begin and received[begin - 1] == ord("\\") and _ESCAPE.match(received, begin - 1):
        begin = len(received[: begin - 1].rstrip(_CHARACTERS))
    return begin


_MEANINGS = {b"\\/": b"/", b"2b": b"+", b"2f": b"/", b"3d": b"="}


def _unescaped(run: bytes) -> bytes:
    if b"\\" not in run:
        return run
    return _ESCAPE.sub(lambda escape: _MEANINGS[escape[0][-2:].lower()], run)
