"""A zip that is imported: one of ours, or of another product. It is not unpacked to disk, and no name in it is trusted.

What its headers say is not believed: bytes are counted as they are unpacked, of all files together, and names are only
looked up, never used as paths.
"""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from .limits import (
    ALWAYS_UNPACKED_BYTES,
    MAX_DIRECTORY_BYTES,
    MAX_ENTRIES,
    MAX_RATIO,
    UNPACKS_TOO_FAR,
    ReadingEnded,
    UnreadableFile,
)
from .schemas import LINES_NAME

_NAME = re.compile(r"(?:.*[/\\])?conversations(?:-([0-9]{1,9}))?\.json", re.IGNORECASE | re.DOTALL)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENTRY = b"PK\x01\x02"  # what each entry of the directory begins with
_BUFFER_BYTES = 256 * 1024
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

Read = Callable[[int], bytes]


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


class _Allowance:
    """How much may still be unpacked."""

    def __init__(self, most_bytes: int, why: str) -> None:
        self._left_bytes = most_bytes
        self._detail = (
            f"The zip unpacks to more than {most_bytes} bytes{why}; unpack it and send what is in it."
        )

    def spend(self, unpacked_bytes: int) -> None:
        """Raises ReadingEnded where it is used up, and again after that."""
        self._left_bytes -= unpacked_bytes
        if self._left_bytes < 0:
            raise ReadingEnded(UNPACKS_TOO_FAR, self._detail)


class Archive:
    """The files in a zip. Reading one raises UnreadableFile where it can't be read, and ReadingEnded where all of its
    kind, conversations or what they name, unpack to more than `max_bytes`, or than MAX_RATIO times the zip's size."""

    def __init__(self, file: IO[bytes], *, size_bytes: int, max_bytes: int) -> None:
        """Raises UnreadableFile for what is no zip."""
        most_bytes = min(max_bytes, max(ALWAYS_UNPACKED_BYTES, MAX_RATIO * size_bytes))
        why = f", which is {MAX_RATIO} times its size" if most_bytes == MAX_RATIO * size_bytes else ""
        self._of_conversations, self._of_files = _Allowance(most_bytes, why), _Allowance(most_bytes, why)
        with _zip_errors_as_unreadable():
            self._zip = zipfile.ZipFile(_Bounded(file))

    @property
    def names(self) -> Iterator[str]:
        """The names of all files."""
        return (info.filename for info in self._zip.infolist() if not info.is_dir())

    def our_lines(self) -> tuple[IO[bytes], str] | None:
        """The lines of an export of this service, and the folder that they are in, where there are any.

        Somebody may have unpacked the zip, and packed the folder: its name is before all others then.
        """
        found = [name for name in self.names if name.rpartition("/")[2] == LINES_NAME]
        if not found:
            return None
        name = min(found, key=lambda each: (each.count("/"), each))
        read = self._open(name, self._of_conversations)
        return io.BufferedReader(_Lines(read), _BUFFER_BYTES), name.removesuffix(LINES_NAME)

    def conversations(self) -> Iterator[Read]:
        """A function that reads it, for each `conversations.json` and `conversations-NNN.json`, in order of NNN.

        Raises UnreadableFile where there are none of them.
        """
        found = []
        for name in self.names:
            if match := _NAME.fullmatch(name):
                found.append((int(match[1] or 0), name))
        if not found:
            raise UnreadableFile("The zip has no conversations.json.")
        return (self._open(name, self._of_conversations) for _, name in sorted(found))

    def __contains__(self, name: str) -> bool:
        return name in self._zip.NameToInfo

    def open(self, name: str) -> Read:
        """A function that reads a file that conversations name, which is opened when it is first called."""
        return self._open(name, self._of_files)

    def _open(self, name: str, allowance: _Allowance) -> Read:
        return _Member(self._zip, name, allowance).read


class _Member:
    """A file in the zip. Its headers are not trusted: bytes are counted."""

    def __init__(self, archive: zipfile.ZipFile, name: str, allowance: _Allowance) -> None:
        self._archive, self._name, self._allowance = archive, name, allowance
        self._file: IO[bytes] | None = None

    def read(self, size: int) -> bytes:
        with _zip_errors_as_unreadable():
            self._allowance.spend(0)
            self._file = self._file or self._open()
            chunk = self._file.read(size)
        self._allowance.spend(len(chunk))
        return chunk

    def _open(self) -> IO[bytes]:
        info = self._archive.getinfo(self._name)
        if info.flag_bits & 1 or info.compress_type not in _METHODS:
            raise UnreadableFile("A file in the zip is encrypted, or packed in an unusual way.")
        return self._archive.open(info)


class _Lines(io.RawIOBase):
    """A file that is read by a function."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        chunk = self._read(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)


@contextmanager
def _zip_errors_as_unreadable() -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        # not zipfile's own text, which quotes names that are in the file
        raise UnreadableFile("The zip can't be read: it is broken or was cut off.") from error
