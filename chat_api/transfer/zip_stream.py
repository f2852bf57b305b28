"""A zip that is sent while it is made: neither in memory nor on the disk.

What is not known before a member is read, its size and its CRC, follows it (APPNOTE 4.3.9), and the directory at the
end has all. Members are not compressed, but are in the blocks of Deflate: so readers without the directory find their
ends, and no zip of ours unpacks to more than its size, which is what an import of it takes.
"""

import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

NOT_COMPRESSED = 0


class Member(NamedTuple):
    """A file in the zip. Its chunks are read before the next member is asked for."""

    name: str
    chunks: Iterable[bytes]
    may_be_large: bool = False
    """Whether it may have more than 2 GB, which is to be known before it is read."""


class _Outlet:
    """What the zip is written to: keeps it until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """There is nothing behind it."""

    def take(self) -> bytes:
        """What was written since it was called last."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def zip_stream(members: Iterable[Member]) -> Iterator[bytes]:
    """The zip in chunks about as large as those of the members. Raises what reading a member raises."""
    outlet: Any = _Outlet()
    archive = zipfile.ZipFile(outlet, "w", zipfile.ZIP_DEFLATED, compresslevel=NOT_COMPRESSED)
    for member in members:
        with archive.open(member.name, "w", force_zip64=member.may_be_large) as entry:
            for chunk in member.chunks:
                entry.write(chunk)
                if data := outlet.take():
                    yield data
    archive.close()
    yield outlet.take()
