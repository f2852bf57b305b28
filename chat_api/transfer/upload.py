"""Receiving a file that may be large: to disk, so that nothing else waits while a client sends it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from flask import current_app, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser

from ..errors import ApiError, InvalidInput, PayloadTooLarge
from ..web.spool import disk_space_needed, spool_file

FORM = "multipart/form-data"
# the content decides what the file is; these are the types that it may be sent as
MEDIA_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines",
               "application/json", "application/zip", "application/x-zip-compressed", "application/octet-stream",
               "text/plain", FORM)  # fmt: skip
PART = "file"
MAX_PARTS = 10
CHUNK_BYTES = 256 * 1024
ENDED_EARLY = "The body ended early."


class NotSentAsExport(ApiError):
    status, code = 415, "unsupported_media_type"

    def __init__(self) -> None:
        super().__init__(
            "Send an export as application/x-ndjson, application/json or application/zip, without a "
            f"Content-Encoding, or as the part `{PART}` of multipart/form-data."
        )


@contextmanager
def received_file() -> Iterator[IO[bytes]]:
    """The file that the request sends, as a file without a name that is deleted with the block.

    Raises NotSentAsExport (415), PayloadTooLarge (413), InvalidInput (400), Unavailable where the disk is full.
    """
    if request.mimetype not in ("", *MEDIA_TYPES) or request.headers.get(
        "Content-Encoding", "identity"
    ).lower() not in ("", "identity"):
        raise NotSentAsExport()
    limit = current_app.config["MAX_IMPORT_BYTES"]
    with spool_file() as body:
        with disk_space_needed():
            size_bytes = _receive(body, limit)
            body.seek(0)
        if not size_bytes:
            raise InvalidInput(detail="The body is missing: send an export.")
        if request.mimetype != FORM:
            yield body
            return
        with _part(body, size_bytes) as file:
            yield file


def _receive(body: IO[bytes], limit: int) -> int:
    """Write the request's body to a file; its size. It is read from the server directly, past MAX_BODY_BYTES."""
    too_large = PayloadTooLarge(f"The body is larger than the limit of {limit} bytes.")
    is_chunked = "HTTP_TRANSFER_ENCODING" in request.environ
    announced = None if is_chunked else request.content_length or 0
    if announced is not None and announced > limit:
        raise too_large
    source, received = request.environ["wsgi.input"], 0
    while announced is None or received < announced:
        left = CHUNK_BYTES if announced is None else min(CHUNK_BYTES, announced - received)
        try:
            chunk = source.read(left)
        except OSError:  # malformed chunks, or a client that stalls
            raise InvalidInput(detail=ENDED_EARLY) from None
        if not chunk:
            break
        received += len(chunk)
        if received > limit:
            raise too_large
        body.write(chunk)
    if announced is not None and received < announced:
        raise InvalidInput(detail=ENDED_EARLY)
    return received


@contextmanager
def _part(body: IO[bytes], size_bytes: int) -> Iterator[IO[bytes]]:
    """The part of a form that is the file."""
    missing = InvalidInput({PART: [f"Send the export as the part `{PART}`, with a file name."]})
    boundary = request.mimetype_params.get("boundary", "").encode("ascii", "replace")
    if not boundary:
        raise missing
    with ExitStack() as opened:

        def open_file(*args: Any, **kwargs: Any) -> IO[bytes]:
            return opened.enter_context(spool_file())

        parser = MultiPartParser(open_file, max_form_memory_size=CHUNK_BYTES, max_form_parts=MAX_PARTS)
        try:
            with disk_space_needed():
                _, files = parser.parse(body, boundary, size_bytes)
        except (ValueError, RequestEntityTooLarge):
            raise missing from None
        if PART not in files:
            raise missing
        yield files[PART].stream
