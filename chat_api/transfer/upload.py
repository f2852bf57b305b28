"""Receiving a file that may be large: to disk, so that nothing else waits while a client sends it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from flask import current_app, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser

from ..errors import ApiError, InvalidInput
from ..web.request_body import copy_body
from ..web.spool import disk_space_needed, spool_file

FORM = "multipart/form-data"
# the content decides what the file is; these are the types that it may be sent as
MEDIA_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines",
               "application/json", "application/zip", "application/x-zip-compressed", "application/octet-stream",
               "text/plain", FORM)  # fmt: skip
PART = "file"
MAX_PARTS = 10
MAX_FORM_MEMORY_BYTES = 256 * 1024


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

    Raises NotSentAsExport (415), PayloadTooLarge (413), InvalidInput (400), RequestTimeout (408), and Unavailable where
    the disk is full.
    """
    if request.mimetype not in ("", *MEDIA_TYPES) or request.headers.get(
        "Content-Encoding", "identity"
    ).lower() not in ("", "identity"):
        raise NotSentAsExport()
    limit = current_app.config["MAX_IMPORT_BYTES"]
    with spool_file() as body:
        size_bytes = copy_body(body, limit)
        body.seek(0)
        if not size_bytes:
            raise InvalidInput(detail="The body is missing: send an export.")
        if request.mimetype != FORM:
            yield body
            return
        with _part(body, size_bytes) as file:
            yield file


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

        parser = MultiPartParser(
            open_file, max_form_memory_size=MAX_FORM_MEMORY_BYTES, max_form_parts=MAX_PARTS
        )
        try:
            with disk_space_needed():
                _, files = parser.parse(body, boundary, size_bytes)
        except (ValueError, RequestEntityTooLarge):
            raise missing from None
        if PART not in files:
            raise missing
        yield files[PART].stream
