"""The thread of a server that reads what was uploaded, and indexes messages whose documents have changed: in one
process of the fleet at a time."""

import logging
import threading
import time

from flask import Flask

from ..database.fleet_lock import try_fleet_lock
from ..database.statements import StatementFailed
from ..errors import ApiError, database_errors
from ..files import texts
from ..server import lifecycle
from . import documents

EXTENSION = "chat_api.extractor"
LOOK_EVERY_S = 5.0  # for uploads to other processes; those to this one are announced
LOOK_WHERE_BUSY_S = 2.0  # whether the process that extracts still lives
AFTER_FAILURE_S = 30.0
AGAIN_S = 0.2  # after an announcement, whose transaction may still be open

log = logging.getLogger(__name__)


def work_through(*, stops: threading.Event | None = None) -> int | None:
    """Extract and index all that waits; how many steps that took, and None where another process does so.

    Raises OSError where the storage can't be read.
    """
    with try_fleet_lock("extraction") as is_held:
        if not is_held:
            return None
        steps, last_user_id = 0, texts.FIRST_ID
        while stops is None or not stops.is_set():
            waiting = texts.find_waiting(last_user_id)
            if waiting is not None:
                found = texts.extract_waiting(waiting)
                last_user_id = waiting.user_id
                log.info("read an upload", extra={"file_type": waiting.file_type, "state": found.state})
            indexed = documents.index_updates()
            if waiting is None and not indexed:
                break
            steps += 1
        return steps


class Extractor:
    """Works while the process serves; see `lifecycle.Participant`."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._stops_at: float | None = None
        self._stops = threading.Event()
        self._thread: threading.Thread | None = None

    def start_serving(self) -> None:
        """Look after uploads from now on."""
        self._thread = threading.Thread(target=self._run, name="extractor", daemon=True)
        self._thread.start()

    def begin_shutdown(self, deadline: float) -> None:
        """End after this file."""
        self._stops_at = deadline

    def finish_shutdown(self) -> None:
        """Wait for the end of this file, at most until the deadline. What is not done is done by the next process."""
        self._stops.set()
        texts.uploaded.set()
        if self._thread is not None:
            deadline = time.monotonic() if self._stops_at is None else self._stops_at
            self._thread.join(max(deadline - time.monotonic(), 1.0))

    def _run(self) -> None:
        self._stops.wait(lifecycle.FIRST_LOOK_AFTER_S)
        while not self._stops.is_set() and self._stops_at is None:
            with self._app.app_context():
                wait_s = self._try_to_work()
            if texts.uploaded.wait(wait_s):
                texts.uploaded.clear()
                self._stops.wait(AGAIN_S)

    def _try_to_work(self) -> float:
        """Do what there is to do; after how many seconds to look again."""
        try:
            if texts.find_waiting() is None and not documents.has_updates():
                return LOOK_EVERY_S
            done = work_through(stops=self._stops)
        except database_errors(ApiError, StatementFailed) as error:  # away, or not upgraded yet
            log.warning("uploads could not be read: %s", type(error).__name__)
            return AFTER_FAILURE_S
        except OSError as error:
            log.warning("the storage of uploads could not be read: %s", type(error).__name__)
            return AFTER_FAILURE_S
        return LOOK_WHERE_BUSY_S if done is None else LOOK_EVERY_S


def init_app(app: Flask) -> None:
    """Give the application an extractor, which starts with the server."""
    extractor = app.extensions[EXTENSION] = Extractor(app)
    lifecycle.register(extractor)
