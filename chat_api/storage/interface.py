"""What a storage of files can do. Names are ours: `<user id>/<file id>`, both UUIDs."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple, Protocol

CHUNK_BYTES = 256 * 1024
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
NAME = re.compile(f"{_UUID}/{_UUID}", re.ASCII)


class NotStored(Exception):
    """The storage has no file of this name."""


class Stored(NamedTuple):
    """A file that the storage has."""

    name: str
    modified_at: datetime
    size_bytes: int


class Incoming(Protocol):
    """A file that is being received. Until it is put it has no name that anybody else would know."""

    @property
    def file(self) -> IO[bytes]: ...


class Chunks(Iterator[bytes], Protocol):
    """The bytes of a file, in order."""

    def close(self) -> None:
        """Let go of the file; also before the end."""


class Storage(Protocol):
    """Every call may raise OSError where the disk or the service behind it fails."""

    @property
    def address(self) -> str:
        """Where the files are: equal for two objects that have the same files."""

    def new_file(self) -> AbstractContextManager[Incoming]:
        """A file to write to, on disk, that is gone at the end of the block unless it was put."""

    def put(self, name: str, incoming: Incoming) -> None:
        """Store what was written to `incoming` under this name. It is durable when this returns."""

    def open(self, name: str, start: int = 0, stop: int | None = None) -> Chunks:
        """The bytes from `start` to before `stop`, in chunks. Raises NotStored, before the first chunk."""

    def size_of(self, name: str) -> int | None:
        """How many bytes the file has; None where there is none of this name."""

    def delete(self, name: str) -> None:
        """Delete a file; one that is missing is fine. It stays deleted when this has returned."""

    def names(self) -> Iterator[Stored]:
        """All files, in no certain order."""

    def local_path(self, name: str) -> Path | None:
        """Where another program finds the file on this machine; None where it is not on its disk."""

    def remove_leftovers(self) -> int:
        """Delete files that were being received by processes that have died; how many those were."""


def check_name(name: str) -> str:
    """The name. Raises ValueError for one that is not ours: nothing that a client sends is a name here."""
    if not NAME.fullmatch(name):
        raise ValueError("Not the name of a stored file.")
    return name
