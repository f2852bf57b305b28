"""A thread of a server that looks after something now and then, until the process ends."""

import logging
import threading
import time

from flask import Flask

from ..database.statements import StatementFailed
from ..errors import ApiError, database_errors
from . import lifecycle

log = logging.getLogger(__name__)


class BackgroundThread:
    """Does its work while the process serves; see `lifecycle.Participant`. A subclass says what that is."""

    name = "background"
    failure = "background work failed"  # as it is logged
    retry_after_s = 30.0

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._stops_at: float | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        lifecycle.register(self)

    def work(self) -> float:
        """Do what there is to do, inside the application's context; after how many seconds to look again."""
        raise NotImplementedError

    @property
    def stops(self) -> bool:
        """Whether the process is about to end, and long work is to be left for another one."""
        return self._stops_at is not None

    def start_serving(self) -> None:
        """Begin to work."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
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

    def _run(self) -> None:
        self._stopped.wait(lifecycle.FIRST_LOOK_AFTER_S)
        while not self.stops:
            with self._app.app_context():
                wait_s = self._try()
            self._stopped.wait(wait_s)

    def _try(self) -> float:
        try:
            return self.work()
        except database_errors(ApiError, StatementFailed, OSError) as error:  # away, or not upgraded yet
            log.warning("%s: %s", self.failure, type(error).__name__)
            return self.retry_after_s
