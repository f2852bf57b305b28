"""A chunked request body as a stream that raises the errors of a socket."""

import io
from typing import Any

from gunicorn.http import errors


class ChunkedBody(io.RawIOBase):
    """Raises OSError for malformed chunks, which becomes a 400; gunicorn's own raises its parser's exceptions."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to the size of `buffer`."""
        try:
            received = self._body.read(len(buffer))
        except errors.ParseException as error:
            raise OSError("malformed chunk") from error
        buffer[: len(received)] = received
        return len(received)
