"""A provider's answer on its way to the client, and what it says of its usage."""

import re
from collections.abc import Callable, Iterator

from ...egress.errors import Failed
from ...egress.response import Response
from ...errors import BestEffort

KEPT_BYTES = 4096  # of the beginning and of the end, where `usage` is
_TOKENS = re.compile(rb'"(?:total|prompt)_tokens"\s*:\s*(\d{1,12})\b')


class Answer:
    """An answer that has begun: its bytes as they arrive. Whoever made it closes it."""

    def __init__(self, response: Response, *, count: Callable[[int], None]) -> None:
        """Wait for the first bytes; `count` gets the tokens that an answer counts which came to its end.

        Raises EgressError, also where it is no JSON.
        """
        self._response, self._count = response, count
        try:
            self._first = response.read()
            if not self._first or not response.headers.get_content_type().endswith("json"):
                raise Failed("The provider's response is not JSON.")
        except BaseException:
            response.close()
            raise

    def pieces(self) -> Iterator[bytes]:
        """All of it. Raises EgressError where it breaks off."""
        piece, first, last = self._first, b"", b""
        while piece:
            first += piece[: KEPT_BYTES - len(first)]
            last = (last + piece)[-KEPT_BYTES:]
            yield piece
            piece = self._response.read()
        with BestEffort("counting tokens"):
            self._count(_tokens_in(last) or _tokens_in(first))

    def close(self) -> None:
        """End the call."""
        self._response.close()


def _tokens_in(text: bytes) -> int:
    return max(map(int, _TOKENS.findall(text)), default=0)
