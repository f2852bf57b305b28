"""The elements of a large JSON array, one at a time, each as the bytes it was written in.

A parser that reports single values as they come builds the path to each of them, which costs memory that grows with
the square of the depth, and a deep file is soon written. Here only strings and brackets are looked at. What an
element holds is for a JSON parser to say, so one that is broken does not keep those after it from being read.
"""

import re
from collections.abc import Callable, Iterator
from itertools import islice

from ..limits import UnreadableFile
from ..records import Pause

CHUNK_BYTES = 256 * 1024

_BLANK = b" \t\r\n"
_BLANKS = re.compile(rb"[ \t\r\n]*+")
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
# Brackets that are closed again are passed by one pattern, as deep as the text of nearly all exports is nested: to
# step over each of them in Python takes 20 times as long. Deeper ones are counted, in runs where that can be done.
_CLOSED_DEPTH = 7


def _closed(depth: int) -> bytes:
    """A pattern of an array or object in which there are others down to this depth."""
    inner = b"|" + _closed(depth - 1) if depth else b""
    return rb'[\[{](?:[^"\[\]{}]++|' + _STRING + inner + rb")*+[\]}]"


_PASSED = _STRING + b"|" + _closed(_CLOSED_DEPTH)
# all up to the next bracket that is not closed here; between elements, up to the next comma as well
_AT_TOP = re.compile(rb'(?:[^"\[\]{},]++|' + _PASSED + rb")*+", re.DOTALL)
_INSIDE = re.compile(rb'(?:[^"\[\]{}]++|' + _PASSED + rb")*+", re.DOTALL)
_OPENING = re.compile(rb'[\[{][^"\]}]*+')
_CLOSING = re.compile(rb'[\]}][^"\[{]*+')
_CLOSING_BRACKET = re.compile(rb"[\]}]")
_BRACKETS = (b"[", b"]", b"{", b"}")


class _Element:
    """The bytes of one element, up to a limit."""

    def __init__(self, max_bytes: int) -> None:
        self._parts: list[bytes] = []
        self._size_bytes, self._max_bytes = 0, max_bytes

    @property
    def size_bytes(self) -> int:
        """How much was added."""
        return self._size_bytes

    def add(self, part: bytes) -> None:
        self._size_bytes += len(part)
        if self._size_bytes > self._max_bytes:
            self._parts.clear()
        else:
            self._parts.append(part)

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing in it."""
        return self._size_bytes <= self._max_bytes and not any(part.strip(_BLANK) for part in self._parts)

    def take(self) -> bytes | None:
        """What there is of it, None where that is too much. It is not kept."""
        if self._size_bytes > self._max_bytes:
            return None
        content = b"".join(self._parts)
        self._parts.clear()
        return content.strip(_BLANK)


def elements_of(
    read: Callable[[int], bytes],
    *,
    max_bytes: int,
    check: Callable[[], None] = lambda: None,
    large_bytes: int | None = None,
    may_grow: Callable[[], bool] = lambda: True,
    has_tail: bool = False,
) -> Iterator[bytes | Pause | None]:
    """The elements of the array that `read` returns bit by bit; None for one of more than `max_bytes`.

    `check` is called with each chunk that is read, and may end it all by raising. Nothing more is read of an element
    that has reached `large_bytes` until `may_grow` says so, only Pauses are yielded. With `has_tail` whatever follows
    the array is not read: it is part of an object.

    Raises UnreadableFile where it is not an array, or where it ends before its closing bracket, after the
    elements that are complete.
    """
    depth, in_string, has_ended, is_first = 0, False, False, True
    element, rest = _Element(max_bytes), b""
    while chunk := read(CHUNK_BYTES):
        check()
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
                offset = _end_of(_OPENING, chunk, end)
                depth += _brackets(chunk[end:offset])
            elif depth > 1:  # a closing bracket
                offset, closed = _closed_run(chunk, end, depth)
                depth -= closed
            else:  # the end of an element; of the last one where it is no comma
                element.add(chunk[start:end])
                has_ended = token != b","
                if not (is_first and has_ended and element.is_blank):  # `[]` has no element
                    yield element.take()
                element, start, is_first = _Element(max_bytes), offset, False
                depth = 0 if has_ended else 1
                if has_ended and has_tail:
                    return
        if depth:
            element.add(chunk[start:])
        while large_bytes is not None and element.size_bytes >= large_bytes and not may_grow():
            yield Pause()
    if not has_ended:
        raise UnreadableFile("It ends before its closing bracket: it was cut off.")


def _closed_run(chunk: bytes, offset: int, depth: int) -> tuple[int, int]:
    """Where a run of closing brackets ends, and how many there are in it; at the latest the one that ends the element.

    What follows that one is looked at more closely: a comma there separates elements.
    """
    end = _end_of(_CLOSING, chunk, offset)
    closed = _brackets(chunk[offset:end])
    if closed < depth - 1:
        return end, closed
    last = next(islice(_CLOSING_BRACKET.finditer(chunk, offset, end), depth - 2, None))
    return last.end(), depth - 1


def _brackets(run: bytes) -> int:
    """How many brackets are in a part that has no strings."""
    return sum(map(run.count, _BRACKETS))


def _end_of(pattern: re.Pattern[bytes], chunk: bytes, offset: int) -> int:
    """Where what the pattern takes ends, which may be at once."""
    match = pattern.match(chunk, offset)
    return match.end() if match else offset


def _opening(chunk: bytes, offset: int, *, has_ended: bool) -> int:
    """The offset of the array's opening bracket, the chunk's end where it is not there yet.

    Raises UnreadableFile for anything but blanks outside of the array.
    """
    offset = _end_of(_BLANKS, chunk, offset)
    if offset < len(chunk) and (has_ended or chunk[offset : offset + 1] != b"["):
        raise UnreadableFile("Something follows the array." if has_ended else "It is not a JSON array.")
    return offset
