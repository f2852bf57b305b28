"""The conversations in a zip that ChatGPT made. Nothing is unpacked to disk, and no name in it is trusted."""

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from ..limits import MAX_DIRECTORY_BYTES, UnreadableFile

_NAME = re.compile(r"(?:.*[/\\])?conversations(?:-([0-9]{1,9}))?\.json", re.IGNORECASE | re.DOTALL)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError)


class _Bounded:
    """A file that refuses a read as large as a zip's directory must not be: zipfile reads the directory at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(MAX_DIRECTORY_BYTES + 1 if size < 0 else min(size, MAX_DIRECTORY_BYTES + 1))
        if len(content) > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is too large")
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def read_members(file: IO[bytes], *, max_bytes: int) -> Iterator[Callable[[int], bytes]]:
    """A function that reads it, for each `conversations.json` and `conversations-NNN.json`, in order of NNN.

    Raises UnreadableFile for what is no zip or has none of them; the functions do for a file that can't be read, and
    where all together unpack to more than `max_bytes`.
    """
    with _zip_errors_as_unreadable():
        archive = zipfile.ZipFile(_Bounded(file))
        members = _conversations(archive)
    if not members:
        raise UnreadableFile("The zip has no conversations.json.")
    left_bytes = max_bytes

    def spend(size_bytes: int) -> None:
        nonlocal left_bytes
        left_bytes -= size_bytes
        if left_bytes < 0:
            raise UnreadableFile(f"The zip unpacks to more than {max_bytes} bytes.")

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
            raise zipfile.BadZipFile("it is encrypted, or packed in an unusual way")
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
        raise UnreadableFile(f"The zip can't be read: {str(error)[:200] or 'it is broken'}.") from error
