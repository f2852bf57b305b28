"""The thread of a server that indexes what an upgrade or an interrupted rebuild has left, in one process at a time."""

import logging
import threading
import time
from contextlib import closing

from flask import Flask

from ..database.statements import StatementFailed
from ..errors import DATABASE_ERRORS, ApiError
from ..server import lifecycle
from . import backlog

EXTENSION = "chat_api.indexer"
LOOK_EVERY_S = 30.0  # an upgrade or a rebuild may come while the service runs
LOOK_WHERE_BUSY_S = 5.0  # whether the process that indexes still lives

log = logging.getLogger(__name__)


class Indexer:
    """Indexes while the process serves; see `lifecycle.Participant`."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._stops_at: float | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start_serving(self) -> None:
        """Look after the backlog from now on."""
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)
        self._thread.start()

    def begin_shutdown(self, deadline: float) -> None:
        """End after this batch."""
        self._stops_at = deadline

    def finish_shutdown(self) -> None:
        """Wait for the batch's end, at most until the deadline."""
        if self._stops_at is None:
            self._stops_at = time.monotonic()
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(max(self._stops_at - time.monotonic(), 1.0))

    @property
    def _stops(self) -> bool:
        return self._stops_at is not None

    def _run(self) -> None:
        while not self._stops:
            with self._app.app_context():
                wait_s = self._try_to_index()
            self._stopped.wait(wait_s)

    def _try_to_index(self) -> float:
        """Index what there is; after how many seconds to look again."""
        try:
            return self._index()
        except (ApiError, StatementFailed, *DATABASE_ERRORS) as error:  # away, or not upgraded yet
            log.warning("messages could not be indexed: %s", type(error).__name__)
            return LOOK_EVERY_S

    def _index(self) -> float:
        if backlog.is_empty():
            return LOOK_EVERY_S
        messages = 0
        with closing(backlog.index_backlog()) as batches:
            for count in batches:
                if count is None:
                    return LOOK_WHERE_BUSY_S
                messages += count
                if self._stops:
                    break
        log.info("indexed messages for search", extra={"messages": messages})
        return LOOK_EVERY_S


def init_app(app: Flask) -> None:
    """Give the application an indexer, which starts with the server."""
    indexer = app.extensions[EXTENSION] = Indexer(app)
    lifecycle.register(indexer)
