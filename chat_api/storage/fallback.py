"""Two storages that are used as one while files are moved from the second to the first.

What is uploaded goes to the first. What is read comes from the first that has it, what is deleted goes from both.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path

from .interface import Chunks, Incoming, NotStored, Storage, Stored


class FallbackStorage:
    """The first storage, with the second for what it does not have yet."""

    def __init__(self, first: Storage, second: Storage) -> None:
        self.first, self.second = first, second

    @property
    def address(self) -> str:
        """See `Storage`."""
        return self.first.address

    def new_file(self) -> AbstractContextManager[Incoming]:
        """See `Storage`."""
        return self.first.new_file()

    def put(self, name: str, incoming: Incoming) -> None:
        """See `Storage`."""
        self.first.put(name, incoming)

    def open(self, name: str, start: int = 0, stop: int | None = None) -> Chunks:
        """See `Storage`. The first is asked again: the file may have been moved after it was asked before."""
        for storage in (self.first, self.second):
            try:
                return storage.open(name, start, stop)
            except NotStored:
                continue
        return self.first.open(name, start, stop)

    def size_of(self, name: str) -> int | None:
        """See `Storage`."""
        for storage in (self.first, self.second, self.first):
            if (size_bytes := storage.size_of(name)) is not None:
                return size_bytes
        return None

    def delete(self, name: str) -> None:
        """See `Storage`. The second goes first: from there it could be moved to the first again."""
        self.second.delete(name)
        self.first.delete(name)

    def names(self) -> Iterator[Stored]:
        """See `Storage`. What is being moved may be there twice."""
        return chain(self.first.names(), self.second.names())

    def local_path(self, name: str) -> Path | None:
        """See `Storage`. Only the first has a folder that other programs know."""
        path = self.first.local_path(name)
        return path if path is not None and path.exists() else None

    def remove_leftovers(self) -> int:
        """See `Storage`."""
        return self.first.remove_leftovers() + self.second.remove_leftovers()
