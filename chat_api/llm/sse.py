"""Parses server-sent events from bytes that may be split anywhere."""

from typing import NamedTuple

from ..egress.errors import Failed
from .untrusted_json import MAX_CONTAINERS, has_too_many_containers

_BOM = b"\xef\xbb\xbf"
# A comment or an empty line takes two bytes and as long as any other line, so their number is limited: so many lines
# may come for each frame, and so many more in a whole stream (a comment every second, for a day).
LINES_PER_FRAME = 16
SPARE_LINES = 100_000
LARGE_BYTES = 1024 * 1024  # an event of more is parsed only if that takes little more memory than its bytes


class Frame(NamedTuple):
    """One event: its name ("" if it has none) and its data, whose lines are joined by newlines."""

    event: str
    data: str


class SseReader:
    """Turns bytes into the events that they complete. Ids, retry times and comments are ignored."""

    def __init__(self, line_bytes: int) -> None:
        self.line_bytes = line_bytes
        self.file_bytes = 0  # of the line, beyond that: what of it is a file; grows
        # an incomplete line, as a list: joining at each read would take quadratic time
        self._partial_line: list[bytes] = []
        self._partial_bytes = 0
        self._after_cr = False
        self._is_first_line = True
        self._too_long = self._too_complex = False
        self._spare_lines = SPARE_LINES
        self._event = b""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, received: bytes) -> list[Frame]:
        """The events that are complete now.

        Raises Failed, on the next call, if a line or event is too long, or too many lines belong to no event.
        """
        self._check()
        if self._after_cr and received:
            self._after_cr = False
            if received[:1] == b"\n":  # the second half of a CRLF
                received = received[1:]
        if not received:
            return []
        lines = received.splitlines()
        self._after_cr = received[-1:] == b"\r"
        rest = b"" if received[-1:] in (b"\n", b"\r") else lines.pop()
        frames: list[Frame] = []
        if lines and self._partial_line:
            self._partial_line.append(lines[0])
            lines[0] = b"".join(self._partial_line)
            self._partial_line, self._partial_bytes = [], 0
        read_line = self._read_line
        for line in lines:
            read_line(line, frames)
        if len(lines) > LINES_PER_FRAME:  # fewer cost no more than the read
            self._spare_lines -= max(len(lines) - LINES_PER_FRAME * len(frames), 0)
        if rest:
            self._partial_line.append(rest)
            self._partial_bytes += len(rest)
            self._too_long |= self._partial_bytes > self.line_bytes + self.file_bytes
        return frames

    def close(self) -> list[Frame]:
        """The event that the end of the stream completes, although its blank line is missing."""
        self._check()
        frames: list[Frame] = []
        if self._partial_line:
            self._read_line(b"".join(self._partial_line), frames)
            self._partial_line, self._partial_bytes = [], 0
        self._read_line(b"", frames)
        self._check()
        return frames

    def _check(self) -> None:
        if self._too_long:
            raise Failed(f"The provider sent a line of more than {self.line_bytes} bytes.")
        if self._too_complex:
            raise Failed(f"The provider sent an event of more than {MAX_CONTAINERS} objects and arrays.")
        if self._spare_lines < 0:
            raise Failed("The provider sent too many lines that belong to no event, such as comments.")

    def _read_line(self, line: bytes, frames: list[Frame]) -> None:
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                event = self._event.decode(errors="replace") if self._event else ""
                if self._data_bytes > LARGE_BYTES and has_too_many_containers(data):
                    self._too_complex, data = True, b""
                frames.append(Frame(event, data.decode(errors="replace")))
                self._data, self._data_bytes = [], 0
            self._event = b""
            return
        if line[:5] == b"data:":
            value = line[6:] if line[5:6] == b" " else line[5:]
        elif line[:6] == b"event:":
            self._event = line[7:] if line[6:7] == b" " else line[6:]
            return
        elif line == b"data":
            value = b""
        elif line[:6] == b"error:":  # no field of the format; llama.cpp reports errors like this
            self._event = b"error"
            value = line[7:] if line[6:7] == b" " else line[6:]
        else:
            self._event = b"" if line == b"event" else self._event
            return
        self._data_bytes += len(value) + 1  # the line end counts, or there could be any number of empty lines
        if self._data_bytes > self.line_bytes + self.file_bytes:
            self._too_long = True
            return
        self._data.append(value)
