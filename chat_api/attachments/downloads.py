"""Sending the content of an attachment, so that no browser runs it.

Whatever the file is, a browser saves it: `Content-Disposition: attachment`. Where one displays it all the same, it is
sandboxed and loads nothing; `nosniff` lets it be nothing else than it is called, and what browsers run, such as HTML,
SVG and scripts, is called `application/octet-stream`. Pages of other origins can't embed it.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from flask import Response, current_app, request

from ..auth import guard
from ..errors import NotFound
from ..files.models import UNKNOWN
from ..files.store import storage, storage_needed
from ..server.slots import release_request_slot
from ..storage import NotStored
from ..storage.interface import CHUNK_BYTES, Chunks
from ..web.content_disposition import content_disposition
from ..web.ranges import Representation, Selection, is_not_modified, selected
from ..web.request_body import end_reads
from ..web.responses import REVALIDATE, entity_tag
from .acceleration import redirect_to
from .service import Content
from .slots import download_slots

POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"
CHECK_TOKEN_EVERY_S = 2.0
# with nosniff a script or a style sheet of another type than these is not loaded, and a document not displayed
_RUNS = re.compile(r"html|[+/]xml|svg|script|/css|/xsl|/wasm|shockwave|php", re.IGNORECASE)

log = logging.getLogger(__name__)


def _nothing() -> None:
    pass


def content_response(content: Content, *, before_sending: Callable[[], None] = _nothing) -> Response:
    """The bytes, the range of them that the request names, or 304.

    `before_sending` is called when nothing but the sending of bytes is left to do, and may raise to prevent that.
    """
    representation = Representation(content.sha256, content.stored_at, content.size_bytes)
    headers = representation.headers | {
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if is_not_modified(representation):
        return _response(304, headers)
    headers |= {
        "Content-Type": sent_type(content.file_type),
        "Content-Disposition": content_disposition("attachment", content.file_name),
        "X-Content-Type-Options": "nosniff",
    }
    selection = selected(representation)
    end_reads()
    if (location := redirect_to(content.name, content.size_bytes, selection)) is not None:
        before_sending()
        del headers["Accept-Ranges"]  # which nginx says itself
        return _response(200, headers | {"X-Accel-Redirect": location})
    headers |= selection.headers
    if request.method == "HEAD":
        _require_stored(content.name)
        return _response(selection.status, headers)
    return _send(content.name, selection, headers, before_sending)


def sent_type(file_type: str) -> str:
    """The type that a browser is given for a file of this type."""
    return UNKNOWN if _RUNS.search(file_type) else file_type


def text_response(text: str, *, is_cut: bool) -> Response:
    """The text of a document, which no browser takes for anything else; or 304."""
    body = text.encode()
    etag = entity_tag(body)
    headers = {
        "ETag": f'"{etag}"',
        "Cache-Control": REVALIDATE,
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if request.if_none_match.contains_weak(etag):
        return _response(304, headers)
    headers |= {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    if is_cut:
        headers["Document-Text"] = "incomplete"
    return _response(200, headers, body)


def _send(
    name: str, selection: Selection, headers: dict[str, str], before_sending: Callable[[], None]
) -> Response:
    """A small one at once; a large one as the client takes it, for which it keeps its thread."""
    if selection.stop - selection.start <= CHUNK_BYTES:
        with closing(_open(name, selection)) as download, storage_needed():
            content = b"".join(download)
        before_sending()
        return _response(selection.status, headers, content)
    with download_slots.take(guard.caller().user_id) as slot:
        release_request_slot()  # it only waits from now on: for the storage, and for the client
        download = _open(name, selection, check=guard.later_check())
        try:
            before_sending()
        except BaseException:
            download.close()
            raise
        return slot.until_closed(_response(selection.status, headers, download))


def _open(name: str, selection: Selection, check: Callable[[], None] | None = None) -> "_Download":
    with storage_needed():
        try:
            chunks = storage().open(name, selection.start, selection.stop)
        except NotStored:
            raise _gone(name) from None
    return _Download(chunks, selection.stop - selection.start, check)


class _Download:
    """So many bytes of a file. Raises OSError where there are fewer, and InvalidToken from `check`, now and then.

    Either breaks the response off: its client would wait for the rest.
    """

    def __init__(self, chunks: Chunks, size_bytes: int, check: Callable[[], None] | None) -> None:
        self._chunks, self._left, self._check = chunks, size_bytes, check
        self._checked_at = time.monotonic()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        if self._check is not None and time.monotonic() - self._checked_at >= CHECK_TOKEN_EVERY_S:
            self._check()
            self._checked_at = time.monotonic()
        chunk = next(self._chunks, b"")[: self._left]
        if not chunk:
            raise OSError("A stored file is shorter than it was.")
        self._left -= len(chunk)
        return chunk

    def close(self) -> None:
        """Called by the server at the end, or when the client has left."""
        self._chunks.close()


def _require_stored(name: str) -> None:
    with storage_needed():
        if storage().size_of(name) is None:
            raise _gone(name)


def _gone(name: str) -> NotFound:
    log.error("the file %s is not in the storage", name)  # `flask attachments sweep` counts these
    return NotFound("content any more")


def _response(status: int, headers: dict[str, str], body: bytes | Iterable[bytes] = b"") -> Response:
    response = current_app.response_class(body, status)
    del response.headers["Content-Type"]
    response.headers.update(headers)
    return response
