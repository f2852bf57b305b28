"""Receiving a request's body: within its limit, and without keeping what others need while its client sends.

A small body has arrived before its request is handled at all (`server/arrival.py`). Whoever waits for another one keeps
neither a slot for requests nor a database connection, and the server sees to it that the client is not too slow.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Protocol

from flask import current_app, g, request

from ..database.session import db
from ..errors import InvalidInput, PayloadTooLarge, RequestTimeout
from .client_address import client_network
from .spool import disk_space_needed, open_spool_file

# what has no long text fits easily: the longest of them, a PUT of an API key, takes 52 KiB when all is escaped
SMALL_BODY_BYTES = 64 * 1024
CHUNK_BYTES = 256 * 1024
ENDED_EARLY = "The body is shorter than its Content-Length; send the request again."
# key of the WSGI environment: a WaitingForClient of the server
WAITING_FOR_CLIENT = "chat_api.waiting_for_client"
# key of the extensions: raises where its argument, a caller, is none any more
CALLER_CHECK = "chat_api.caller_check"


class WaitingForClient(Protocol):
    """What a server does around a wait for a client; raises TooManyRequests or Unavailable if too many wait already."""

    def __call__(self, client: str) -> AbstractContextManager[None]:
        """`client` is whose share of these waits it is."""


def receive_body(limit: int) -> bytes | IO[bytes]:
    """The body: as bytes if it is small, otherwise as a file without a name.

    Raises PayloadTooLarge (413, before more than `limit` bytes are read), InvalidInput, RequestTimeout.
    """
    environ = request.environ
    length = body_length(limit)
    if length is not None and length <= SMALL_BODY_BYTES and "HTTP_EXPECT" not in environ:
        raw = read_from_client(length)
        if len(raw) != length:
            raise InvalidInput(detail=ENDED_EARLY)
        return raw
    with waiting_for_client():
        file = open_spool_file()
        try:
            size_bytes = copy_body(file, limit)
            require_valid_caller()
            file.seek(0)
            if size_bytes > SMALL_BODY_BYTES:
                return file
            raw = file.read()
        except BaseException:
            file.close()
            raise
    file.close()
    return raw


def require_valid_caller() -> None:
    """Raise InvalidToken (401) where the caller's token was revoked since the request began.

    For what has just arrived: a client may take an hour to send it.
    """
    caller, check = g.get("caller"), current_app.extensions.get(CALLER_CHECK)
    if caller is not None and check is not None:
        check(caller)
        end_reads()


def has_body() -> bool:
    """Whether the request has a body, even one that is not what it should be."""
    environ = request.environ
    return "HTTP_TRANSFER_ENCODING" in environ or environ.get("CONTENT_LENGTH") not in (None, "", "0")


def body_length(limit: int) -> int | None:
    """How long the body says it is; None for one in chunks. Raises PayloadTooLarge."""
    if "HTTP_TRANSFER_ENCODING" in request.environ:
        return None
    text = request.environ.get("CONTENT_LENGTH") or "0"
    if not text.isdecimal():
        raise InvalidInput(detail="Content-Length is not a number.")
    if int(text) > limit:
        raise too_large(limit)
    return int(text)


def too_large(limit: int) -> PayloadTooLarge:
    """The error of a body beyond its limit."""
    return PayloadTooLarge(f"The body is larger than the limit of {limit} bytes.")


def copy_body(target: IO[bytes], limit: int) -> int:
    """Write the body to `target`; its size. Raises as `receive_body`."""
    received = 0
    for chunk in body_chunks(limit):
        received += len(chunk)
        with disk_space_needed():
            target.write(chunk)
    with disk_space_needed():
        target.flush()
    return received


def body_chunks(limit: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The body as it arrives. Raises as `receive_body`: whoever has not come to the end does not have it whole."""
    announced, received = body_length(limit), 0
    while announced is None or received < announced:
        left = (limit + 1 if announced is None else announced) - received  # a client may wait for the 413
        chunk = read_from_client(min(chunk_bytes, left))
        if not chunk:
            break
        received += len(chunk)
        if received > limit:
            raise too_large(limit)
        yield chunk
    if announced is not None and received < announced:
        raise InvalidInput(detail=ENDED_EARLY)


def read_from_client(size: int) -> bytes:
    """Up to `size` bytes of the body. Raises RequestTimeout for a client that is too slow, InvalidInput."""
    try:
        raw: bytes = request.environ["wsgi.input"].read(size)
    except (TimeoutError, BlockingIOError):
        raise RequestTimeout() from None
    except OSError:  # malformed chunks, or a client that has left
        raise InvalidInput(detail=ENDED_EARLY) from None
    return raw


def end_reads() -> None:
    """Give the database connection back that the guard has read with; nothing is written before a body is there."""
    if db.session.registry.has():
        db.session.rollback()


@contextmanager
def waiting_for_client() -> Iterator[None]:
    """Keep neither a slot for requests nor a database connection during the block."""
    end_reads()
    wait: WaitingForClient | None = request.environ.get(WAITING_FOR_CLIENT)
    if wait is None:
        yield
        return
    caller = g.get("caller")
    with wait(caller.user_id if caller else f"network {client_network()}"):
        yield
