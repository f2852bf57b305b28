"""Receiving an upload: a form of which one part is the file, written to disk and hashed while it arrives.

Nothing of the body is kept in memory but the chunk that was read last, whatever the client sends in which order.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any

from flask import current_app, request
from werkzeug.http import parse_options_header

from ..errors import ApiError, InvalidInput
from ..files.models import MAX_FILE_NAME
from ..files.service import Upload
from ..files.store import storage
from ..storage import Incoming
from ..web.echo import field_name
from ..web.request_body import body_chunks, body_length, too_large
from ..web.spool import disk_space_needed

FORM = "multipart/form-data"
PART = "file"
FIELDS = ("message_id",)
CHUNK_BYTES = 64 * 1024
LARGE_BYTES = 1024 * 1024
MAX_FORM_BYTES = 64 * 1024  # all that is not the file: boundaries, headers, other fields
MAX_VALUE_BYTES = 1024
HEAD_BYTES = 64 * 1024  # of which the type is decided
MAX_PARTS = 10
MAX_HEADER_BYTES = 8 * 1024  # each of 8
MAX_BOUNDARY = 200  # RFC 2046 has 70, which some clients do not keep to
UNNAMED = "unnamed"
# RFC 7578 has none of them any more, and some clients name these
PLAIN_TRANSFERS = ("", "binary", "8bit", "7bit")
_ENCODED_WORDS = re.compile(r"(=\?[\w.*-]{1,40}\?[bq]\?[^?\s]*\?=\s*)+", re.IGNORECASE | re.ASCII)
# reorder what is displayed after them, or can't be seen at all
_INVISIBLE = re.compile("[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")


@dataclass
class ReceivedForm:
    """What a form held. `incoming` is the file."""

    incoming: Incoming
    upload: Upload
    file_name: str
    fields: dict[str, str] = field(default_factory=dict)


def is_form() -> bool:
    """Whether the request sends a form."""
    return request.mimetype == FORM


def announced_bytes() -> int:
    """How many bytes the file has at least, as far as the request's head says. Raises PayloadTooLarge.

    0 for what is quickly received: whether the user has that content already is known then.
    """
    limit = current_app.config["MAX_ATTACHMENT_BYTES"] + MAX_FORM_BYTES
    announced = (body_length(limit) or 0) - MAX_FORM_BYTES
    return announced if announced >= LARGE_BYTES else 0


@contextmanager
def received_form(*, takes_others: bool = False) -> Iterator[ReceivedForm]:
    """The form that the request sends. Its file is deleted at the end of the block unless it was stored.

    `takes_others` lets it have other fields than FIELDS.

    Raises InvalidInput (400), PayloadTooLarge (413), RequestTimeout (408), and Unavailable where the disk is full.
    """
    boundary = request.mimetype_params.get("boundary", "").encode("ascii", "replace")
    if not 1 <= len(boundary) <= MAX_BOUNDARY:
        raise InvalidInput(detail="The Content-Type names no boundary, or a very long one.")
    if request.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise NotSentAsForm()
    with disk_space_needed():
        new_file = storage().new_file()
        incoming = new_file.__enter__()
    try:
        yield _Receiver(incoming, takes_others=takes_others).receive(boundary)
    except BaseException as error:
        new_file.__exit__(type(error), error, error.__traceback__)
        raise
    new_file.__exit__(None, None, None)


class NotSentAsForm(ApiError):
    status, code = 415, "unsupported_media_type"

    def __init__(self) -> None:
        super().__init__(
            f"Send a file as the part `{PART}` of multipart/form-data, without a Content-Encoding, or its path as"
            " application/json."
        )


class _Receiver:
    """Takes a form apart while it arrives."""

    def __init__(self, incoming: Incoming, *, takes_others: bool) -> None:
        self._incoming, self._takes_others = incoming, takes_others
        self._hash = hashlib.sha256()
        self._limit: int = current_app.config["MAX_ATTACHMENT_BYTES"]
        self._head = bytearray()
        self._size_bytes = 0
        self._file: Any = None  # the head of its part
        self._file_name: str | None = None
        self._values: dict[str, bytearray] = {}
        self._part = ""  # whose data come

    def receive(self, boundary: bytes) -> ReceivedForm:
        """All of the form, to its last boundary, and all of the body."""
        from multipart import MultipartError, ParserLimitReached, PushMultipartParser

        parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS, max_header_size=MAX_HEADER_BYTES)
        received = 0
        try:
            with parser:
                for chunk in body_chunks(self._limit + MAX_FORM_BYTES, CHUNK_BYTES):
                    received += len(chunk)
                    self._take_events(parser.parse(chunk))
                    if received - self._size_bytes > MAX_FORM_BYTES + CHUNK_BYTES:
                        raise InvalidInput(
                            detail=f"The form has more than {MAX_FORM_BYTES} bytes beside the file."
                        )
        except ParserLimitReached:
            raise InvalidInput(
                detail=f"The form has more than {MAX_PARTS} parts, or long or many headers in one of them."
            ) from None
        except MultipartError as error:
            raise InvalidInput(
                detail=f"The form is malformed, or its end is missing: {_said_of(error)}."
            ) from None
        with disk_space_needed():
            self._incoming.file.flush()
        return self._form()

    def _take_events(self, events: Iterable[Any]) -> None:
        """Take what has arrived: the head of a part, then its data, then its end."""
        for event in events:
            if isinstance(event, bytes | bytearray):
                self._take(event)
            elif event is not None:
                self._begin(event.name or "", event)

    def _begin(self, name: str, part: Any) -> None:
        self._part = name
        if name == PART:
            if self._file is not None:
                raise InvalidInput({PART: ["Given more than once: send one file per request."]})
            self._file, self._file_name = part, _file_name_of(part)
            if self._file_name is None:
                raise InvalidInput({PART: ["Has no file name: send it as a file."]})
            if part.header("Content-Transfer-Encoding", "").strip().lower() not in PLAIN_TRANSFERS:
                raise InvalidInput({PART: ["Has a Content-Transfer-Encoding: send the bytes as they are."]})
        elif name not in FIELDS and not self._takes_others:
            raise InvalidInput({field_name(name): ["Unknown field."]})
        elif name in self._values:
            raise InvalidInput({name: ["Given more than once."]})
        else:
            self._values[name] = bytearray()

    def _take(self, chunk: bytes | bytearray) -> None:
        if self._part != PART:
            value = self._values[self._part]
            value += chunk
            if len(value) > MAX_VALUE_BYTES:
                raise InvalidInput({self._part: [f"Longer than {MAX_VALUE_BYTES} bytes."]})
            return
        self._size_bytes += len(chunk)
        if self._size_bytes > self._limit:
            raise too_large(self._limit)
        self._hash.update(chunk)
        with disk_space_needed():
            self._incoming.file.write(chunk)
        if (missing := HEAD_BYTES - len(self._head)) > 0:
            self._head += chunk[:missing]

    def _form(self) -> ReceivedForm:
        from .file_types import OtherContent, type_of  # its tables take a moment to load

        file = self._file
        if file is None:
            raise InvalidInput({PART: [f"Missing: send the file as the part `{PART}`."]})
        if not self._size_bytes:
            raise InvalidInput({PART: ["The file is empty."]})
        name = label_of(self._file_name)
        claimed = file.content_type or ""
        try:
            file_type = type_of(bytes(self._head), claimed=claimed, file_name=name)
        except OtherContent as error:
            raise InvalidInput({PART: [str(error)]}) from None
        upload = Upload(self._hash.hexdigest(), self._size_bytes, file_type)
        return ReceivedForm(self._incoming, upload, name, self._texts())

    def _texts(self) -> dict[str, str]:
        try:
            return {name: value.decode() for name, value in self._values.items()}
        except UnicodeDecodeError:
            raise InvalidInput(detail="A field of the form is not valid UTF-8.") from None


def _file_name_of(part: Any) -> str | None:
    """The name that a part gives its file, also as `filename*`, which RFC 7578 forbids and some clients send, and in
    the words of mail (RFC 2047), as those of .NET do."""
    if part.filename is not None:
        name = str(part.filename)
        return _decoded_words(name) if _ENCODED_WORDS.fullmatch(name) else name
    return parse_options_header(part.header("Content-Disposition", ""))[1].get("filename")


def _decoded_words(name: str) -> str:
    try:
        return str(make_header(decode_header(name)))
    except (HeaderParseError, LookupError, ValueError):  # of another kind after all
        return name


def _said_of(error: Exception) -> str:
    """What the parser says, without the bytes that it had."""
    return str(error.args[0]).rstrip(".") if error.args else type(error).__name__


def label_of(file_name: str | None) -> str:
    """The client's name of a file as a label: without the folders, and without what can't be seen or would mislead.

    Normalized, so that the same name is the same text; at most MAX_FILE_NAME characters, of which the end is kept for
    its extension.
    """
    name = re.split(r"[/\\]", file_name or "")[-1].encode("utf-8", "replace").decode()
    name = unicodedata.normalize("NFC", name)
    name = _INVISIBLE.sub("", name)
    name = "".join(each for each in name if unicodedata.category(each) not in ("Cc", "Zl", "Zp", "Cs", "Co"))
    name = " ".join(name.split()).strip(". ") if name.strip(". ") else ""
    if len(name) > MAX_FILE_NAME:
        stem, dot, extension = name.rpartition(".")
        ending = f".{extension}" if dot and len(extension) <= 16 else ""
        name = (stem if ending else name)[: MAX_FILE_NAME - len(ending)] + ending
    return name or UNNAMED


def fingerprint_of(form: ReceivedForm) -> dict[str, Any]:
    """What makes a repeated upload the same request."""
    return {**form.fields, "file_name": form.file_name, "sha256": form.upload.sha256}
