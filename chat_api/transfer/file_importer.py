"""The contents of attachments on their way from a zip into the storage.

As with an upload the bytes come first, outside a transaction, and their row with the attachment's. What is kept and not
stored is discarded; what a killed import leaves is found by `flask attachments sweep`.
"""

import hashlib
import io
import logging
import time
from collections.abc import Generator, Iterable
from typing import Any, NamedTuple

from flask import current_app

from ..attachments import service as attachments
from ..attachments.file_types import OtherContent, type_of
from ..attachments.uploads import HEAD_BYTES, label_of
from ..database.bulk import PAUSED
from ..errors import QuotaExceeded
from ..files import service as files
from ..files.service import Kept, Upload
from ..files.store import storage, storage_needed
from ..users import service as users
from ..web.spool import disk_space_needed
from .archive import Archive, Read
from .import_report import BROKEN, MISSING, REFUSED, ImportReport
from .limits import ReadingEnded, UnreadableFile
from .records import Record
from .schemas import member_of

CHUNK_BYTES = 256 * 1024
PAUSE_AFTER_S = 0.1  # of copying: others wait for the lock of long writes

log = logging.getLogger(__name__)


class Content(NamedTuple):
    """The content of an attachment, whose bytes are kept."""

    kept: Kept
    file_name: str


class FileImporter:
    """Keeps and stores the contents that one file has, for one user."""

    def __init__(
        self, *, user_id: str, report: ImportReport, archive: Archive | None = None, folder: str = ""
    ) -> None:
        """`folder` is where in the zip the names begin that lines have."""
        self._user_id, self._report = user_id, report
        self._archive, self._folder = archive, folder
        self._unstored: dict[str, Kept] = {}  # by their hash
        self._hashes: dict[str, str] = {}  # of names that were read
        self._broken: set[str] = set()

    def keep(self, record: Record) -> Generator[Any, None, Content | None]:
        """Keep the content that an attachment has in the file, if it has one there; PAUSED now and then.

        Content that the user has already is not read again. Raises Unavailable where there is no disk space for it,
        or the storage fails.
        """
        fields = record.fields
        name = fields.get("member") or (
            self._folder + member_of(fields["sha256"]) if "sha256" in fields else ""
        )
        if not name:
            return None
        with storage_needed("Import the file again: what has been stored stays."):
            kept = self._find(fields.get("sha256") or self._hashes.get(name))
            if kept is None:
                kept = yield from self._read(name, fields)
        return Content(kept, label_of(fields["file_name"])) if kept is not None else None

    def store(self, contents: Iterable[Content]) -> dict[str, str]:
        """Write the rows of these files, in the caller's transaction; the ids of the files by their hashes.

        Raises QuotaExceeded, and Unavailable where a file was deleted meanwhile.
        """
        kept = {content.kept.upload.sha256: content.kept for content in contents}
        new_bytes = sum(
            each.upload.size_bytes
            for sha256, each in kept.items()
            if not files.has_content(user_id=self._user_id, sha256=sha256)
        )
        attachments.require_room_for(user_id=self._user_id, size_bytes=new_bytes)
        # in order: two imports of the same wait for each other, and not in a circle
        file_ids = {
            sha256: files.store_file(user_id=self._user_id, kept=kept[sha256]) for sha256 in sorted(kept)
        }
        for sha256 in kept:
            self._unstored.pop(sha256, None)
        return file_ids

    def hold_owner(self) -> None:
        """Let one transaction at a time store files of the user, so that each counts what the others have stored."""
        users.hold_user(user_id=self._user_id)

    def discard(self) -> None:
        """Delete what is kept and was not stored. Outside a transaction."""
        while self._unstored:
            sha256, kept = self._unstored.popitem()
            if not files.has_content(user_id=self._user_id, sha256=sha256):
                files.discard_bytes(user_id=self._user_id, kept=kept)

    def _find(self, sha256: str | None) -> Kept | None:
        """What is kept already, by this import or since before."""
        if sha256 is None:
            return None
        return self._unstored.get(sha256) or files.find_kept(user_id=self._user_id, sha256=sha256)

    def _read(self, name: str, fields: dict[str, Any]) -> Generator[Any, None, Kept | None]:
        """Keep a file of the zip; None where that can't be done, which is counted."""
        read = self._reader(name, fields)
        if read is None:
            return self._leave_out(MISSING)
        if name in self._broken:
            return self._leave_out(BROKEN)
        try:
            self._require_room(fields.get("size_bytes", 1))
            with storage().new_file() as incoming:
                upload = yield from self._copy(read, incoming.file, fields)
                self._require_room(upload.size_bytes)
                self._hashes[name] = upload.sha256
                kept = self._unstored.get(upload.sha256) or files.keep_bytes(
                    user_id=self._user_id, incoming=incoming, upload=upload
                )
        except (_TooLarge, ReadingEnded, QuotaExceeded):
            return self._leave_out(REFUSED)
        except UnreadableFile:
            self._broken.add(name)
            return self._leave_out(BROKEN)
        if not kept.is_known:
            self._unstored[upload.sha256] = kept
        return kept

    def _reader(self, name: str, fields: dict[str, Any]) -> Read | None:
        """What reads a file of the zip, or of the message itself; None where there is none."""
        if fields.get("data") is not None:
            return io.BytesIO(fields["data"]).read
        is_there = self._archive is not None and name in self._archive
        return self._archive.open(name) if self._archive is not None and is_there else None

    def _copy(self, read: Read, file: Any, fields: dict[str, Any]) -> Generator[Any, None, Upload]:
        """Copy a file to one of this machine. Raises _TooLarge, and UnreadableFile also for another one
        than is wanted."""
        limit: int = current_app.config["MAX_ATTACHMENT_BYTES"]
        digest, head = hashlib.sha256(), bytearray()
        size_bytes, began = 0, time.monotonic()
        while chunk := read(CHUNK_BYTES):
            size_bytes += len(chunk)
            if size_bytes > limit:
                raise _TooLarge
            digest.update(chunk)
            with disk_space_needed():
                file.write(chunk)
            if len(head) < HEAD_BYTES:
                head += chunk[: HEAD_BYTES - len(head)]
            if time.monotonic() - began > PAUSE_AFTER_S:
                yield PAUSED
                began = time.monotonic()
        sha256 = digest.hexdigest()
        if not size_bytes or fields.get("sha256", sha256) != sha256:
            raise UnreadableFile("A file in the zip is empty, or is not what it was.")
        return Upload(sha256, size_bytes, _type_of(bytes(head), fields))

    def _require_room(self, size_bytes: int) -> None:
        """Refuse a file for which there is no room beside those that are kept. Raises QuotaExceeded."""
        unstored_bytes = sum(kept.upload.size_bytes for kept in self._unstored.values())
        attachments.require_room_for(user_id=self._user_id, size_bytes=unstored_bytes + size_bytes)

    def _leave_out(self, why: str) -> Kept | None:
        """Count a content that is not kept, and is none."""
        self._report.files[why] += 1
        return None


class _TooLarge(Exception):
    """The file is larger than an upload may be."""


def _type_of(head: bytes, fields: dict[str, Any]) -> str:
    """What the content is; what the file says only decides where that leaves a choice."""
    name = fields["file_name"]
    try:
        return type_of(head, claimed=fields["file_type"], file_name=name)
    except OtherContent:
        return type_of(head, file_name=name)
