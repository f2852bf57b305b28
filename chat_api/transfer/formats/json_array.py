"""The elements of a large JSON array, one at a time, each as the bytes it was written in.

A parser that reports single values as they come builds the path to each of them, which costs memory that grows with
the square of the depth, and a deep file is soon written. Here only strings and brackets are looked at. What an
element holds is for a JSON parser to say, so one that is broken does not keep those after it from being read.
"""

import re
from collections.abc import Callable, Iterator

from ..limits import UnreadableFile

CHUNK_BYTES = 256 * 1024

_BLANK = b" \t\r\n"
# all up to the next bracket, whole strings included; between elements, up to the next comma as well
_UP_TO = rb'(?:[^"\[\]{}%s]++|"(?:[^"\\]++|\\.)*+")*+'
_AT_TOP, _INSIDE = re.compile(_UP_TO % b",", re.DOTALL), re.compile(_UP_TO % b"", re.DOTALL)
_STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


class _Element:
    """The bytes of one element, up to a limit."""

    def __init__(self, max_bytes: int) -> None:
        self._parts: list[bytes] = []
        self._size_bytes, self._max_bytes = 0, max_bytes

    def add(self, part: bytes) -> None:
        self._size_bytes += len(part)
        if self._size_bytes > self._max_bytes:
            self._parts.clear()
        else:
            self._parts.append(part)

    def content(self) -> bytes | None:
        """What there is of it, None where that is too much."""
        if self._size_bytes > self._max_bytes:
            return None
        return b"".join(self._parts).strip(_BLANK)


def elements_of(read: Callable[[int], bytes], *, max_bytes: int) -> Iterator[bytes | None]:
    """The elements of the array that `read` returns bit by bit; None for one of more than `max_bytes`.

    Raises UnreadableFile where it is not an array, or where it ends before its closing bracket, after the
    elements that are complete.
    """
    depth, in_string, has_ended, is_first = 0, False, False, True
    element, rest = _Element(max_bytes), b""
    while chunk := read(CHUNK_BYTES):
        chunk, rest = rest + chunk, b""
        offset = start = 0
        while offset < len(chunk):
            if in_string:
                offset = _end_of(_STRING_REST, chunk, offset)
                if offset == len(chunk):
                    break
                if chunk[offset : offset + 1] == b"\\":  # what it escapes comes with the next chunk
                    chunk, rest = chunk[:offset], chunk[offset:]
                    break
                in_string, offset = False, offset + 1
                continue
            if depth == 0:
                offset = _opening(chunk, offset, has_ended=has_ended)
                if offset < len(chunk):
                    depth, offset = 1, offset + 1
                start = offset
                continue
            end = _end_of(_AT_TOP if depth == 1 else _INSIDE, chunk, offset)
            offset, token = end + 1, chunk[end : end + 1]
            if not token:
                break
            if token == b'"':  # of a string that goes on in the next chunk
                in_string = True
            elif token in b"[{":
                depth += 1
            elif depth > 1:  # a closing bracket
                depth -= 1
            else:  # the end of an element; of the last one where it is no comma
                element.add(chunk[start:end])
                content = element.content()
                has_ended = token != b","
                if content != b"" or not (is_first and has_ended):  # `[]` has no element
                    yield content
                element, start, is_first = _Element(max_bytes), offset, False
                depth = 0 if has_ended else 1
        if depth:
            element.add(chunk[start:])
    if not has_ended:
        raise UnreadableFile("It ends before its closing bracket: it was cut off.")


def _end_of(pattern: re.Pattern[bytes], chunk: bytes, offset: int) -> int:
    """Where what the pattern takes ends, which may be at once."""
    match = pattern.match(chunk, offset)
    return match.end() if match else offset


def _opening(chunk: bytes, offset: int, *, has_ended: bool) -> int:
    """The offset of the array's opening bracket, the chunk's end where it is not there yet.

    Raises UnreadableFile for anything but blanks outside of the array.
    """
    while offset < len(chunk) and chunk[offset] in _BLANK:
        offset += 1
    if offset < len(chunk) and (has_ended or chunk[offset : offset + 1] != b"["):
        raise UnreadableFile("Something follows the array." if has_ended else "It is not a JSON array.")
    return offset
