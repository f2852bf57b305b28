"""The bytes of stored files, for whoever reads them on this machine or sends them on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from ..storage import NotStored, Storage
from ..web.spool import disk_space_needed, spool_file
from .store import storage


class StoredContent:
    """The bytes of a stored file, read from the storage each time; also in a thread without an application."""

    def __init__(self, name: str, *, size_bytes: int, sha256: str) -> None:
        self.size_bytes, self.sha256 = size_bytes, sha256
        self._storage: Storage = storage()
        self._name = name

    def blocks(self) -> Iterator[bytes]:
        """Them from the beginning. Raises OSError where they can't be read."""
        try:
            chunks = self._storage.open(self._name)
            try:
                yield from chunks
            finally:
                chunks.close()
        except NotStored as error:
            raise FileNotFoundError("The file is not in the storage.") from error


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """A stored file as one of this machine. Raises NotStored, OSError, and Unavailable where the disk is full."""
    path = storage().local_path(name)
    if path is not None:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise NotStored(name) from None
        with file:
            yield file
        return
    with spool_file() as copy:
        chunks = storage().open(name)
        try:
            with disk_space_needed():
                for chunk in chunks:
                    copy.write(chunk)
                copy.flush()
        finally:
            chunks.close()
        copy.seek(0)
        yield copy
