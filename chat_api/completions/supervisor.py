"""The supervisor of a process: a thread that makes all its replies durable a few times a second.

It also renews their leases, obeys cancellations that came through other workers, and, in a server, finalizes
replies whose worker has died. None of these steps keeps another one from being done, and no reply another one.
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
STEPS = {
    "renew": "leases of replies could not be renewed",
    "save": "replies could not be made durable",
    "cancel": "cancellations of replies could not be looked for",
    "reap": "abandoned replies could not be finalized",
    "stop": "replies could not be stopped",
}
"""What the log says of a step that failed."""

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
        self._due: dict[str, float] = {}  # when each step is due next, without those that failed
        self._checkpoints: dict[tuple[str, str], Checkpoint] = {}  # that are not stored yet
        self._unreported: Counter[tuple[str, int]] = (
            Counter()
        )  # failures of a step and level since their last line
        self._reports_at: dict[tuple[str, int], float] = {}

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
                self._tick(running)
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

    def _tick(self, running: list[Run]) -> None:
        if self._registry.has_stopped:
            self._try("stop", self._registry.stop_all)
        if running and self._take_due(
            "renew", RENEW_EVERY_S
        ):  # first: nothing that waits may cost the leases
            self._try("renew", lambda: self._renew(running))
        self._try("save", lambda: self._save(running))
        if running and self._take_due("cancel", LOOK_FOR_CANCEL_EVERY_S):
            self._try("cancel", lambda: self._stop_cancelled(running))
        if self._stays and self._take_due("reap", REAP_EVERY_S):
            self._try("reap", reap_abandoned_and_commit)

    def _renew(self, running: list[Run]) -> None:
        for error in checkpoints.renew_leases_and_commit([run.key for run in running]):
            self._report_if_failed("renew", error)

    def _save(self, running: list[Run]) -> None:
        """Make durable what came since the last time.

        A checkpoint that failed is sent again unchanged, as it may have been stored all the same; until its reply has
        ended, which stores the text by itself.
        """
        pending = []
        for run in running:
            checkpoint = self._checkpoints.get(run.key)
            if checkpoint is not None:
                pending.append(checkpoint)
            elif chunks := run.log.after(run.saved_position):
                pending.append(Checkpoint(run, run.saved_position, chunks))
        self._checkpoints = {checkpoint.run.key: checkpoint for checkpoint in pending}
        rows = [(*each.run.key, each.begin, each.chunks) for each in pending]
        errors = checkpoints.save_checkpoints_and_commit(rows)
        for (run, begin, chunks), error in zip(pending, errors, strict=True):
            if error is None:
                run.saved_position = begin + sum(chunk.length for chunk in chunks)
                del self._checkpoints[run.key]
            self._report_if_failed("save", error)

    def _stop_cancelled(self, running: list[Run]) -> None:
        answers = checkpoints.find_uncancelled([run.key for run in running])
        for run, answer in zip(running, answers, strict=True):
            if isinstance(answer, Exception):
                self._report_if_failed("cancel", answer)
            elif not answer:
                run.stop(BY_USER)

    def _try(self, step: str, run: Callable[[], None]) -> None:
        """Do a step of a round. It is tried again in the next round where the database is away: nothing of a reply is
        dropped before it is stored."""
        try:
            run()
        except (
            Exception
        ) as error:  # without this thread, all replies of the process would be taken for abandoned
            self._report_if_failed(step, error)

    def _report_if_failed(self, step: str, error: Exception | None) -> None:
        if error is None:
            return
        self._due.pop(step, None)
        if isinstance(error, ApiError):
            self._report(step, logging.WARNING, str(error))
        elif isinstance(error, StatementFailed):  # which no waiting changes
            self._report(step, logging.ERROR, f"the database refused the statement: {error}")
        else:
            self._report(step, logging.ERROR, "unexpected failure", error)

    def _report(self, step: str, level: int, detail: str, error: Exception | None = None) -> None:
        """Log a failure; one that repeats, as on a full disk, once a minute with its count since the last line."""
        kind = step, level
        self._unreported[kind] += 1
        moment = time.monotonic()
        if moment >= self._reports_at.get(kind, 0):
            self._reports_at[kind] = moment + REPORT_EVERY_S
            times = self._unreported.pop(kind)
            log.log(level, "%s: %s", STEPS[step], detail, exc_info=error, extra={"times": times})

    def _take_due(self, what: str, every_s: float) -> bool:
        """True once in so many seconds; the next ones count from then."""
        moment = time.monotonic()
        if moment < self._due.get(what, 0):
            return False
        self._due[what] = moment + every_s
        return True
