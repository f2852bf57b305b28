"""The conversations in a zip that ChatGPT made. Nothing is unpacked to disk, and no name in it is trusted."""

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from ..limits import (
    ALWAYS_UNPACKED_BYTES,
    MAX_DIRECTORY_BYTES,
    MAX_ENTRIES,
    MAX_RATIO,
    UNPACKS_TOO_FAR,
    ReadingEnded,
    UnreadableFile,
)

_NAME = re.compile(r"(?:.*[/\\])?conversations(?:-([0-9]{1,9}))?\.json", re.IGNORECASE | re.DOTALL)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENTRY = b"PK\x01\x02"  # what each entry of the directory begins with
# what zipfile raises for headers that lie: sizes and offsets become arguments of `seek`, `read` and `unpack`
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    OSError,
)


class _Bounded:
    """A file that refuses reads as large, or with as many entries, as a zip's directory must not have.

    zipfile reads the directory at once, and makes an object of each entry.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(MAX_DIRECTORY_BYTES + 1 if size < 0 else min(size, MAX_DIRECTORY_BYTES + 1))
        if len(content) > MAX_DIRECTORY_BYTES:
            raise UnreadableFile(f"The directory of the zip is larger than {MAX_DIRECTORY_BYTES} bytes.")
        if content.count(_ENTRY) > MAX_ENTRIES:
            raise UnreadableFile(f"The directory of the zip has more than {MAX_ENTRIES} entries.")
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def read_members(file: IO[bytes], *, size_bytes: int, max_bytes: int) -> Iterator[Callable[[int], bytes]]:
    """A function that reads it, for each `conversations.json` and `conversations-NNN.json`, in order of NNN.

    Raises UnreadableFile for what is no zip or has none of them; the functions do for a file that can't be read. They
    raise ReadingEnded where all together unpack to more than `max_bytes`, or than MAX_RATIO times the zip's size.
    """
    most_bytes = min(max_bytes, max(ALWAYS_UNPACKED_BYTES, MAX_RATIO * size_bytes))
    with _zip_errors_as_unreadable():
        archive = zipfile.ZipFile(_Bounded(file))
        members = _conversations(archive)
    if not members:
        raise UnreadableFile("The zip has no conversations.json.")
    left_bytes = most_bytes

    is_by_ratio = most_bytes == MAX_RATIO * size_bytes

    def spend(unpacked_bytes: int) -> None:
        nonlocal left_bytes
        left_bytes -= unpacked_bytes
        if left_bytes < 0:
            why = f", which is {MAX_RATIO} times its size" if is_by_ratio else ""
            detail = f"The zip unpacks to more than {most_bytes} bytes{why}; unpack it and send conversations.json."
            raise ReadingEnded(UNPACKS_TOO_FAR, detail)

    for info in members:
        yield _Member(archive, info, spend).read


class _Member:
    """A file in the zip, opened when it is first read. Its headers are not trusted: bytes are counted."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, spend: Callable[[int], None]) -> None:
        self._archive, self._info, self._spend = archive, info, spend
        self._file: IO[bytes] | None = None

    def read(self, size: int) -> bytes:
        with _zip_errors_as_unreadable():
            self._file = self._file or self._open()
            chunk = self._file.read(size)
        self._spend(len(chunk))
        return chunk

    def _open(self) -> IO[bytes]:
        if self._info.flag_bits & 1 or self._info.compress_type not in _METHODS:
            raise UnreadableFile("A file in the zip is encrypted, or packed in an unusual way.")
        return self._archive.open(self._info)


def _conversations(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    found = []
    for info in archive.infolist():
        if match := _NAME.fullmatch(info.filename):
            found.append((int(match[1] or 0), info.filename, info))
    return [info for _, _, info in sorted(found, key=lambda item: item[:2])]


@contextmanager
def _zip_errors_as_unreadable() -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        # not zipfile's own text, which quotes names that are in the file
        raise UnreadableFile("The zip can't be read: it is broken or was cut off.") from error
