"""Files in a folder of this machine, or of a network file system that all machines share.

A file is written under a random name in `incoming`, and moved when it is complete and on the disk. Whoever receives one
holds a lock on it, which ends with the process: so leftovers are told from uploads in progress, however slow.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from uuid import uuid4

from .interface import CHUNK_BYTES, NAME, Chunks, Incoming, NotStored, Stored, check_name

INCOMING = "incoming"
MOVES = 20  # tries
LEFTOVER_AFTER_S = 60.0  # a file is locked within a moment of its creation


@dataclass
class LocalFile:
    """A file in `incoming`."""

    path: Path
    file: IO[bytes]


class LocalStorage:
    """The files in one folder, each in the folder of its owner."""

    def __init__(self, folder: Path, *, is_group_readable: bool = False) -> None:
        """With `is_group_readable` the service's group, in which a web server's user is, can read the files."""
        self._folder = folder
        self._folder_mode, self._file_mode = (0o750, 0o640) if is_group_readable else (0o700, 0o600)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder with our mode, whatever the umask says."""
        try:
            folder.mkdir(mode=self._folder_mode, parents=True)
            folder.chmod(self._folder_mode)
        except FileExistsError:
            pass

    @property
    def address(self) -> str:
        """See `Storage`."""
        return str(self._folder.resolve())

    @contextmanager
    def new_file(self) -> Iterator[LocalFile]:
        """See `Storage`. Nobody else may read what users upload."""
        incoming = self._folder / INCOMING
        for folder in (self._folder, incoming):
            self._make_folder(folder)
        path = incoming / uuid4().hex
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self._file_mode)
        file = os.fdopen(descriptor, "w+b")
        try:
            os.fchmod(descriptor, self._file_mode)  # the umask may be stricter
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield LocalFile(path, file)
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # a failed write has been reported already
                file.close()

    def put(self, name: str, incoming: Incoming) -> None:
        """See `Storage`. The bytes are on the disk before the name is, and the name is before this returns."""
        target = self._path(name)
        if not isinstance(incoming, LocalFile):
            with self.new_file() as own:
                incoming.file.seek(0)
                while chunk := incoming.file.read(CHUNK_BYTES):
                    own.file.write(chunk)
                self.put(name, own)
            return
        incoming.file.flush()
        os.fsync(incoming.file.fileno())
        os.utime(incoming.path)  # a sweep goes by the time at which it got its name
        self._move(incoming.path, target)
        _sync_folder(target.parent)

    def _move(self, path: Path, target: Path) -> None:
        """Rename into the folder of the owner, which another process may remove when the last file goes."""
        for _ in range(MOVES):
            if not target.parent.is_dir():
                self._make_folder(target.parent)
                _sync_folder(self._folder)
            try:
                path.rename(target)
            except FileNotFoundError:
                if not path.exists():
                    raise
            else:
                return
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def open(self, name: str, start: int = 0, stop: int | None = None) -> Chunks:
        """See `Storage`."""
        try:
            file = self._path(name).open("rb")
        except FileNotFoundError:
            raise NotStored(name) from None
        return _Chunks(file, start, stop)

    def size_of(self, name: str) -> int | None:
        """See `Storage`."""
        try:
            return self._path(name).stat().st_size
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """See `Storage`. The folder of an owner goes with the last file."""
        path = self._path(name)
        try:
            path.unlink()
        except FileNotFoundError:
            return
        with suppress(FileNotFoundError):  # somebody has deleted another file, the last one, and its folder
            _sync_folder(path.parent)
        with suppress(OSError):  # others are in it
            path.parent.rmdir()

    def names(self) -> Iterator[Stored]:
        """See `Storage`."""
        for owner in _entries(self._folder):
            for path in _entries(Path(owner.path)) if owner.is_dir(follow_symlinks=False) else ():
                name = f"{owner.name}/{path.name}"
                if NAME.fullmatch(name):
                    with suppress(FileNotFoundError):  # deleted at this moment
                        status = path.stat(follow_symlinks=False)
                        yield Stored(name, datetime.fromtimestamp(status.st_mtime, UTC), status.st_size)

    def local_path(self, name: str) -> Path | None:
        """See `Storage`."""
        return self._path(name)

    def remove_leftovers(self) -> int:
        """See `Storage`."""
        count = 0
        for entry in _entries(self._folder / INCOMING):
            with suppress(OSError):
                is_old = entry.stat(follow_symlinks=False).st_mtime < time.time() - LEFTOVER_AFTER_S
                if is_old and _is_abandoned(entry.path):
                    Path(entry.path).unlink()
                    count += 1
        return count

    def _path(self, name: str) -> Path:
        return self._folder / check_name(name)


class _Chunks:
    """The bytes of an open file, which is closed at the end of them or by `close`."""

    def __init__(self, file: IO[bytes], start: int, stop: int | None) -> None:
        self._file, self._left = file, None if stop is None else stop - start
        file.seek(start)

    def __iter__(self) -> "_Chunks":
        return self

    def __next__(self) -> bytes:
        size = CHUNK_BYTES if self._left is None else min(CHUNK_BYTES, self._left)
        chunk = b"" if self._file.closed or size <= 0 else self._file.read(size)
        if not chunk:
            self.close()
            raise StopIteration
        if self._left is not None:
            self._left -= len(chunk)
        return chunk

    def close(self) -> None:
        self._file.close()


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from entries


def _is_abandoned(path: str) -> bool:
    """Whether no process holds a lock on it."""
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
