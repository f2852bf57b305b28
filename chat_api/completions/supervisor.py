"""The supervisor of a process: a thread that makes all its replies durable a few times a second, in one statement.

It also renews their leases, obeys cancellations that came through other workers, and, in a server, finalizes
replies whose worker has died.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol

from flask import Flask

from ..database.statements import StatementFailed
from ..errors import ApiError
from . import checkpoints
from .finalize import reap_abandoned_and_commit
from .reply_log import Chunk
from .run import BY_USER, Run

SAVE_EVERY_S = 0.2
LOOK_FOR_CANCEL_EVERY_S = 0.4
RENEW_EVERY_S = 4.0
REAP_EVERY_S = 5.0
REPORT_EVERY_S = 60.0

log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """What is made durable of a reply in one go."""

    run: Run
    begin: int
    chunks: list[Chunk]


class Supervised(Protocol):
    """What the supervisor needs of the registry of replies."""

    stops_at: float | None

    @property
    def app(self) -> Flask: ...

    @property
    def running(self) -> list[Run]: ...

    @property
    def has_stopped(self) -> bool: ...

    def stop_all(self) -> None: ...


class Supervisor:
    """The thread's state. It lives as long as there are replies, in a server as long as the process."""

    def __init__(self, registry: Supervised) -> None:
        self._registry = registry
        self._stays = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake_up = threading.Event()
        self._due: dict[str, float] = {}  # when what is done now and then is due next; emptied by a failure
        self._checkpoints: list[Checkpoint] = []
        self._unreported: Counter[int] = Counter()  # failures of a log level since its last line
        self._reports_at: dict[int, float] = {}

    def wake(self) -> None:
        """Make sure that the thread runs and looks after a new reply."""
        self._wake_up.set()
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._keep, name="supervisor", daemon=True)
                self._thread.start()

    def stay(self) -> None:
        """Look after replies of dead workers, too, as long as the process lives."""
        self._stays = True
        self.wake()

    def finish(self, timeout_s: float) -> None:
        """Wait for the thread's end, at most so long: it uses the database until then."""
        self._wake_up.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _keep(self) -> None:
        app = self._registry.app  # held on to: it must not go before this thread's end
        while True:
            self._wake_up.clear()
            running = self._registry.running
            with app.app_context():
                self._try(self._tick, running)
            if running:
                time.sleep(SAVE_EVERY_S)
            elif self._stays and self._registry.stops_at is None:
                self._wake_up.wait(REAP_EVERY_S)
            elif self._mark_done_if_idle():
                return

    def _mark_done_if_idle(self) -> bool:
        """Let the thread end; False where a reply has come at this very moment, and it goes on."""
        with self._lock:
            if self._registry.running:
                return False
            self._thread = None
            return True

    def _try(self, step: Callable[[list[Run]], None], running: list[Run]) -> None:
        """Try again in the next round where the database is away: nothing of a reply is dropped before it is stored."""
        try:
            step(running)
        except (ApiError, StatementFailed) as error:
            self._report(logging.WARNING, f"replies could not be made durable: {error}")
            self._due.clear()
        except (
            Exception
        ) as error:  # without this thread, all replies of the process would be taken for abandoned
            self._report(logging.ERROR, "the supervisor of replies failed unexpectedly", error)
            self._due.clear()

    def _report(self, level: int, message: str, error: Exception | None = None) -> None:
        """Log a failure; one that repeats, as on a full disk, once a minute with its count since the last line."""
        self._unreported[level] += 1
        moment = time.monotonic()
        if moment >= self._reports_at.get(level, 0):
            self._reports_at[level] = moment + REPORT_EVERY_S
            log.log(level, "%s", message, exc_info=error, extra={"times": self._unreported.pop(level)})

    def _tick(self, running: list[Run]) -> None:
        if self._registry.has_stopped:
            self._registry.stop_all()
        keys = [run.key for run in running]
        if running and self._take_due(
            "renew", RENEW_EVERY_S
        ):  # first: nothing that fails may cost the leases
            checkpoints.renew_leases_and_commit(keys)
        self._save(running)
        if running and self._take_due("cancel", LOOK_FOR_CANCEL_EVERY_S):
            uncancelled = checkpoints.find_uncancelled(keys)
            for run in running:
                if run.completion.id not in uncancelled:
                    run.stop(BY_USER)
        if self._stays and self._take_due("reap", REAP_EVERY_S):
            reap_abandoned_and_commit()

    def _save(self, running: list[Run]) -> None:
        """Make durable what came since the last time.

        A checkpoint that failed is sent again unchanged: it may have been stored all the same.
        """
        if not self._checkpoints:
            self._checkpoints = [
                Checkpoint(run, run.saved_position, chunks)
                for run in running
                if (chunks := run.log.after(run.saved_position))
            ]
        if self._checkpoints:
            checkpoints.save_checkpoints_and_commit(
                (*checkpoint.run.key, checkpoint.begin, checkpoint.chunks) for checkpoint in self._checkpoints
            )
        for checkpoint in self._checkpoints:
            length = sum(chunk.length for chunk in checkpoint.chunks)
            checkpoint.run.saved_position = checkpoint.begin + length
        self._checkpoints = []

    def _take_due(self, what: str, every_s: float) -> bool:
        """True once in so many seconds; the next ones count from then."""
        moment = time.monotonic()
        if moment < self._due.get(what, 0):
            return False
        self._due[what] = moment + every_s
        return True
