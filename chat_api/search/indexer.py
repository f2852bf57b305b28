"""The thread of a server that indexes what an upgrade or an interrupted rebuild has left, in one process at a time."""

import logging
from contextlib import closing

from flask import Flask

from ..server.background import BackgroundThread
from . import backlog

EXTENSION = "chat_api.indexer"
LOOK_EVERY_S = 30.0  # an upgrade or a rebuild may come while the service runs
LOOK_WHERE_BUSY_S = 5.0  # whether the process that indexes still lives

log = logging.getLogger(__name__)


class Indexer(BackgroundThread):
    """Indexes what the backlog has."""

    name = "indexer"
    failure = "messages could not be indexed"
    retry_after_s = LOOK_EVERY_S

    def work(self) -> float:
        """Index what there is."""
        if backlog.is_empty():
            return LOOK_EVERY_S
        messages = 0
        with closing(backlog.index_backlog()) as batches:
            for count in batches:
                if count is None:
                    return LOOK_WHERE_BUSY_S
                messages += count
                if self.stops:
                    break
        log.info("indexed messages for search", extra={"messages": messages})
        return LOOK_EVERY_S


def init_app(app: Flask) -> None:
    """Give the application an indexer, which starts with the server."""
    app.extensions[EXTENSION] = Indexer(app)
