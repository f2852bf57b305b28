"""How much a worker prepares of files for models at the same time: images that are made to fit, texts of documents.

Both run in processes of their own, and a request only waits for them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Unavailable
from ..server.slots import Slots, while_waiting

MAX_PREPARING = 4
MAX_PREPARING_PER_USER = 2
WAIT_S = 2.0
LONGEST_S = 60.0  # for all files of one request; what was prepared by then is there for the next one

preparing_slots = Slots(
    MAX_PREPARING,
    full="This server is preparing as many files for models as it can; retry.",
    limit_per_user=MAX_PREPARING_PER_USER,
    full_for_user=f"Files of {MAX_PREPARING_PER_USER} of your requests are being prepared already; retry.",
    retry_after_s=5,
)


class Preparation:
    """What has to be prepared for one request."""

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id
        self._ends_at: float | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Prepare one file inside the block. Raises TooManyRequests, and Unavailable, also after LONGEST_S."""
        now = time.monotonic()
        if self._ends_at is None:
            self._ends_at = now + LONGEST_S
        elif now > self._ends_at:
            raise Unavailable(
                "Preparing the attachments takes too long; retry, and it continues where it stopped."
            )
        with preparing_slots.take(self._user_id, wait_s=WAIT_S), while_waiting():
            yield
