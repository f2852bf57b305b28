"""An export with the contents of attachments: a zip of the lines, then of each content once.

Whose content is sent is known from the lines. Their hashes are kept meanwhile, about 100 bytes for each content.
"""

import logging
from collections.abc import Iterable, Iterator

import orjson
import sqlalchemy as sa

from ..database.engine import reading
from ..database.session import db
from ..errors import Unavailable
from ..files.models import StoredFile
from ..files.store import name_of, storage
from ..storage import NotStored
from ..storage.interface import Chunks
from .exporter import NamedContents, write_export
from .records import END, HEADER
from .schemas import LINES_NAME, VERSION, member_of
from .zip_stream import Member, zip_stream

MISSING_NAME = "missing-files.ndjson"
DELETED, LOST, UNREADABLE = "deleted", "lost", "unreadable"
BATCH = 100
MOST_FAILURES = 3  # of the storage, in a row: it is away, and a zip without the files is no use

log = logging.getLogger(__name__)


def write_zip(user_id: str) -> Iterator[bytes]:
    """The zip in chunks. Raises what `write_export` raises, and Unavailable where the storage can't be read."""
    return zip_stream(_members(user_id))


def _members(user_id: str) -> Iterator[Member]:
    named: NamedContents = set()
    yield Member(LINES_NAME, write_export(user_id, named), may_be_large=True)
    contents = _Contents(user_id)
    yield from contents.members(named)
    yield Member(MISSING_NAME, [contents.missing_lines()])


class _Contents:
    """The contents that the lines name, and what has become of those that are not in the zip."""

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id
        self._count = self._failures = 0
        self._missing: dict[str, str] = {}  # hash -> why

    def members(self, named: NamedContents) -> Iterator[Member]:
        """A member for each that can be read. Those that were deleted meanwhile, or are lost, are noted."""
        for batch in _batches(sorted(named)):
            hashes = [digest.hex() for digest in batch]
            found = _find_files(self._user_id, hashes)
            for sha256 in hashes:
                if sha256 not in found:
                    self._missing[sha256] = DELETED
                    continue
                file_id, size_bytes = found[sha256]
                chunks = self._opened(sha256, file_id)
                if chunks is not None:
                    self._count += 1
                    yield Member(member_of(sha256), self._read(sha256, size_bytes, chunks))

    def missing_lines(self) -> bytes:
        """What is not in the zip, or not as it was, as lines."""
        head = {"type": HEADER, "version": VERSION}
        lines = (
            {"type": "missing_file", "sha256": sha256, "reason": self._missing[sha256]}
            for sha256 in self._missing
        )
        end = {"type": END, "files": self._count, "missing_files": len(self._missing)}
        return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in (head, *lines, end))

    def _opened(self, sha256: str, file_id: str) -> Chunks | None:
        try:
            chunks = storage().open(name_of(self._user_id, file_id))
        except NotStored:
            is_there = bool(_find_files(self._user_id, [sha256]))
            self._missing[sha256] = LOST if is_there else DELETED
        except OSError as error:
            self._note_failure(sha256, error)
        else:
            return chunks
        return None

    def _read(self, sha256: str, size_bytes: int, chunks: Chunks) -> Iterator[bytes]:
        """The content. Of one that breaks off what was read is in the zip: it can't be taken back."""
        try:
            for chunk in chunks:
                size_bytes -= len(chunk)
                yield chunk
        except OSError as error:
            self._note_failure(sha256, error)
        else:
            self._failures = 0
            if size_bytes:
                self._missing[sha256] = LOST
        finally:
            chunks.close()

    def _note_failure(self, sha256: str, error: OSError) -> None:
        log.warning("a file could not be exported: %s", error)
        self._missing[sha256] = UNREADABLE
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            raise Unavailable("The storage of files can't be read at the moment; export again.") from error


def _find_files(user_id: str, hashes: list[str]) -> dict[str, tuple[str, int]]:
    """Id and size of the user's files with these contents."""
    columns = (StoredFile.sha256, StoredFile.id, StoredFile.size_bytes)
    query = sa.select(*columns).where(StoredFile.user_id == user_id, StoredFile.sha256.in_(hashes))
    with reading(db.engine).connect() as connection:
        return {row.sha256: (str(row.id), row.size_bytes) for row in connection.execute(query)}


def _batches(digests: list[bytes]) -> Iterable[list[bytes]]:
    return (digests[start : start + BATCH] for start in range(0, len(digests), BATCH))
