"""A look at the stored secrets when a server starts: how many of them ENCRYPTION_KEYS can't open."""

import logging
import threading
import time
from contextlib import closing

from flask import Flask

from ..database.fleet_lock import try_fleet_lock
from ..database.statements import StatementFailed
from ..errors import ApiError, database_errors
from ..server import lifecycle
from . import maintenance

EXTENSION = "chat_api.key_check"
PAUSE_S = 0.02  # between two batches: requests come first

log = logging.getLogger(__name__)


class KeyCheck:
    """Runs once in a process that begins to serve, unless another one does at that moment; see `Participant`."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start_serving(self) -> None:
        """Look through the secrets in the background."""
        self._thread = threading.Thread(target=self._run, name="key-check", daemon=True)
        self._thread.start()

    def begin_shutdown(self, deadline: float) -> None:
        """Nothing waits for the result: `finish_shutdown` ends it."""

    def finish_shutdown(self) -> None:
        """End after this batch."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        if self._stopped.wait(lifecycle.FIRST_LOOK_AFTER_S):
            return
        with self._app.app_context():
            try:
                with try_fleet_lock("key-check") as is_first:
                    if is_first:
                        self._check()
            except database_errors(ApiError, StatementFailed, OSError) as error:
                log.warning("stored secrets could not be checked: %s", type(error).__name__)

    def _check(self) -> None:
        total = unreadable = 0
        with closing(maintenance.count_secrets()) as batches:
            for found, broken in batches:
                total, unreadable = total + found, unreadable + broken
                if self._stopped.is_set():
                    return
                time.sleep(PAUSE_S)
        if unreadable:
            log.warning(
                "some stored secrets can't be opened with any of ENCRYPTION_KEYS: put the old key back, or ask the "
                "affected users to store their provider keys again",
                extra={"unreadable": unreadable, "secrets": total},
            )


def init_app(app: Flask) -> None:
    """Give the application its check, which runs with the server."""
    check = app.extensions[EXTENSION] = KeyCheck(app)
    lifecycle.register(check)
