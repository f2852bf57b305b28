"""The files of a reply in progress: received from its provider, checked, and stored when they are whole.

The thread that writes the reply does this, outside a transaction, so a slow storage keeps that reply waiting and no
other. Whatever goes wrong with a file, the reply goes on without it, and its warnings say so.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from mimetypes import guess_extension
from typing import IO, Any

from flask import Flask

from ..attachments import replies
from ..attachments.replies import RowNotWritten
from ..errors import BestEffort, NotFound, QuotaExceeded, Unavailable
from ..files import service as files
from ..files.models import UNKNOWN
from ..files.service import Upload
from ..files.store import storage
from ..llm.base64_content import NO_SPACE, TOO_LARGE, Unreadable
from ..llm.events import FileData
from ..llm.reply_media import AUDIO, IMAGE, KINDS, NAMES
from ..storage import Incoming
from ..web.spool import open_spool_file
from .records import StartedCompletion
from .reply_log import Chunk, attachment_chunk
from .wav import wav_header

MAX_FILES = 20  # of one reply
HEAD_BYTES = 64 * 1024  # of which the type is decided
CHUNK_BYTES = 256 * 1024
EXTENSIONS = {
    "audio/wav": ".wav",
    "audio/ogg": ".ogg",
    "audio/webm": ".webm",
}  # that mimetypes lacks, or has another
# waits between tries to write a row while the database is away; after the last one the file is left out
RETRY_S = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
LEFT_OUT = "{name} that the model made is not kept: {why}."
UNKNOWN_TYPE = "its content is neither an image nor a recording nor a video"
CUT_OFF = "it was cut off"
NOT_STORED = "it could not be stored"
TOO_MANY = f"a reply has at most {MAX_FILES} files"

log = logging.getLogger(__name__)


class _LeftOut(Exception):
    """A file is not kept. The message says why."""


@dataclass
class _Receiving:
    """A file that is arriving."""

    kind: str
    media_type: str
    incoming: Incoming
    stack: ExitStack
    sha256: Any = field(default_factory=hashlib.sha256)
    size_bytes: int = 0
    head: bytearray = field(default_factory=bytearray)

    def write(self, block: bytes) -> None:
        """Take the next bytes. Raises OSError."""
        self.size_bytes += len(block)
        self.sha256.update(block)
        self.incoming.file.write(block)
        if (missing := HEAD_BYTES - len(self.head)) > 0:
            self.head += block[:missing]


class ReplyFiles:
    """The files of one reply. Its methods are called by the reply's thread."""

    def __init__(
        self, app: Flask, completion: StartedCompletion, *, is_stopped: Callable[[], bool], is_stored: bool
    ) -> None:
        """Of a reply that is not stored (`is_stored`) no file is."""
        self._app, self._user_id, self._is_stopped = app, completion.user_id, is_stopped
        self._is_stored = is_stored
        self._left_bytes: int = app.config["MAX_REPLY_FILE_BYTES"]
        self._receiving: dict[int, _Receiving] = {}
        self._refused: set[int] = set()
        self._hashes: set[str] = set()  # of what is stored: some servers send a file again with the end
        self._ids: list[str] = []
        self._names: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.warnings: list[str] = []

    def open_temporary(self) -> IO[bytes]:
        """A temporary file for what is too large for memory. Raises OSError."""
        try:
            with self._app.app_context():
                return open_spool_file()
        except Unavailable as error:
            raise OSError(str(error)) from error

    def take(self, data: FileData) -> Chunk | None:
        """Take the next bytes of a file; if it is whole and stored, the chunk that says so in the reply's log."""
        if data.number in self._refused or not self._is_stored:
            return None
        try:
            with self._app.app_context():  # with a database session that ends here
                self._receive(data)
                return self._finish(data.number) if data.is_last else None
        except _LeftOut as error:
            self._refuse(data, str(error))
        except Unreadable as error:
            self._refuse(data, str(error))
        except (OSError, Unavailable) as error:
            log.warning("a file of a reply could not be stored: %s", error)
            self._refuse(data, NO_SPACE if isinstance(error, OSError) else NOT_STORED)
        return None

    def close(self) -> None:
        """Let go of what is not whole."""
        for number, receiving in list(self._receiving.items()):
            self._refuse(FileData(number, receiving.kind, iter(())), CUT_OFF)

    def drop_unattached_and_commit(self) -> None:
        """Release what has become part of no message, as the reply was deleted, or ended elsewhere without it."""
        if self._ids:
            with BestEffort("releasing the files of a reply"), self._app.app_context():
                replies.drop_drafts_and_commit(user_id=self._user_id, attachment_ids=self._ids)

    def _receive(self, data: FileData) -> None:
        receiving = self._receiving.get(data.number) or self._begin(data)
        for block in data.content:
            self._left_bytes -= len(block)
            if self._left_bytes < 0:
                self._left_bytes += receiving.size_bytes + len(block)
                raise _LeftOut(TOO_LARGE)
            receiving.write(block)

    def _begin(self, data: FileData) -> _Receiving:
        if len(self._ids) + len(self._receiving) >= MAX_FILES:
            raise _LeftOut(TOO_MANY)
        stack = ExitStack()
        incoming = stack.enter_context(storage().new_file())
        receiving = _Receiving(data.kind, data.media_type, incoming, stack)
        self._receiving[data.number] = receiving
        return receiving

    def _finish(self, number: int) -> Chunk | None:
        receiving = self._receiving[number]
        receiving.incoming.file.flush()
        upload, incoming = _typed(receiving)
        if upload.sha256 in self._hashes:
            self._end(number)
            return None
        self._names[receiving.kind] += 1
        extension = EXTENSIONS.get(upload.file_type) or guess_extension(upload.file_type) or ""
        name = f"{receiving.kind}-{self._names[receiving.kind]}{extension}"
        described = self._store(incoming, upload, name)
        self._end(number)
        self._hashes.add(upload.sha256)
        self._ids.append(described["id"])
        return attachment_chunk(described)

    def _store(self, incoming: Incoming, upload: Upload, name: str) -> dict[str, Any]:
        """Make the bytes durable, then write their row; again while the database is away for a moment."""
        kept = files.keep_bytes(user_id=self._user_id, incoming=incoming, upload=upload)
        for wait_s in (*RETRY_S, None):
            try:
                return replies.create_draft_and_commit(user_id=self._user_id, kept=kept, file_name=name)
            except RowNotWritten as error:
                if not error.may_pass or wait_s is None or self._is_stopped():
                    files.discard_bytes(user_id=self._user_id, kept=kept)
                    raise _reason_of(error.cause) from error
                if kept.is_known:  # and was perhaps removed just now
                    kept = files.keep_bytes(user_id=self._user_id, incoming=incoming, upload=upload)
            time.sleep(wait_s)
        raise _LeftOut(NOT_STORED)

    def _refuse(self, data: FileData, why: str) -> None:
        self._refused.add(data.number)
        self._end(data.number)
        warning = LEFT_OUT.format(name=NAMES.get(data.kind, NAMES[AUDIO]), why=why)
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _end(self, number: int) -> None:
        receiving = self._receiving.pop(number, None)
        if receiving is not None:
            receiving.stack.close()


def _typed(receiving: _Receiving) -> tuple[Upload, Incoming]:
    """What a file is by its content, and where it is. Raises _LeftOut."""
    from ..attachments.file_types import OtherContent, type_of  # its tables take a moment to load

    head = bytes(receiving.head)
    try:
        file_type = type_of(head, claimed=receiving.media_type)
    except OtherContent:  # what a provider calls it is often wrong
        file_type = type_of(head)
    group = file_type.partition("/")[0]
    # what begins quietly looks like an icon of Windows
    if receiving.kind == AUDIO and (file_type == UNKNOWN or group == IMAGE) and not receiving.size_bytes % 2:
        return _as_wav(receiving)
    if group not in KINDS:
        raise _LeftOut(UNKNOWN_TYPE)
    return Upload(receiving.sha256.hexdigest(), receiving.size_bytes, file_type), receiving.incoming


def _as_wav(receiving: _Receiving) -> tuple[Upload, Incoming]:
    """Bare samples with the header that players need: the only form in which OpenAI streams a recording."""
    target = receiving.stack.enter_context(storage().new_file())
    sha256, size_bytes = hashlib.sha256(), 0
    for block in _with_header(receiving):
        target.file.write(block)
        sha256.update(block)
        size_bytes += len(block)
    target.file.flush()
    return Upload(sha256.hexdigest(), size_bytes, "audio/wav"), target


def _with_header(receiving: _Receiving) -> Iterator[bytes]:
    yield wav_header(receiving.size_bytes, receiving.media_type)
    receiving.incoming.file.seek(0)
    while block := receiving.incoming.file.read(CHUNK_BYTES):
        yield block


def _reason_of(cause: Exception) -> _LeftOut:
    if isinstance(cause, QuotaExceeded):
        return _LeftOut(str(cause).rstrip("."))
    return _LeftOut("its user is gone" if isinstance(cause, NotFound) else NOT_STORED)
