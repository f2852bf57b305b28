"""A body during which something else happens."""

import io
from collections.abc import Callable
from threading import Thread
from typing import Any


class Interrupted(io.BytesIO):
    """A body in whose middle something else happens."""

    def __init__(self, body: bytes, then: Callable[[], Any]) -> None:
        super().__init__(body)
        self._then: Callable[[], Any] | None = then

    def read(self, size: int | None = -1) -> bytes:
        then, self._then = self._then, None
        if then is not None:
            other = Thread(target=then)  # a request within another one would share its context
            other.start()
            other.join()
        return super().read(size)
