"""A request's body in chunks, for an application that knows only sockets."""

import io
from typing import Any

from gunicorn.http import errors


class ChunkedBody(io.RawIOBase):
    """Malformed chunks are an OSError, so a 400; gunicorn's own raises its parser's exceptions inside a view."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        """Only to be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to the size of `buffer`."""
        try:
            received = self._body.read(len(buffer))
        except errors.ParseException as error:
            raise OSError("malformed chunk") from error
        buffer[: len(received)] = received
        return len(received)
