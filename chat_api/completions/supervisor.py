"""The keeper of a process: one thread that makes all its replies durable, a few times a second, in one statement.

It also renews their leases, obeys cancellations that came through other workers, and, in a server, finalizes
replies whose worker has died.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from flask import Flask

from ..database.statements import StatementFailed
from ..errors import ApiError
from . import checkpoints, finalize
from .reply_log import Chunk
from .run import BY_USER, Run

SAVE_EVERY_S = 0.2
LOOK_FOR_CANCEL_EVERY_S = 0.4
RENEW_EVERY_S = 4.0
REAP_EVERY_S = 5.0

log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """What is made durable of a reply in one go."""

    run: Run
    begin: int
    chunks: list[Chunk]


class Supervised(Protocol):
    """What the keeper needs of the registry of replies."""

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

    def __init__(self, runs: Supervised) -> None:
        self._runs = runs
        self._stays = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wanted = threading.Event()
        self._due: dict[str, float] = {}  # when what is done now and then is due next; emptied by a failure
        self._checkpoints: list[Checkpoint] = []

    def wake(self) -> None:
        """See to it that somebody looks after a new reply."""
        self._wanted.set()
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
                self._thread.start()

    def stay(self) -> None:
        """Look after replies of dead workers, too, as long as the process lives."""
        self._stays = True
        self.wake()

    def finish(self, timeout_s: float) -> None:
        """Wait for the thread's end, at most so long: it uses the database until then."""
        self._wanted.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _keep(self) -> None:
        app = self._runs.app  # held on to: it must not go before this thread's end
        while True:
            self._wanted.clear()
            running = self._runs.running
            with app.app_context():
                self._try(self._tick, running)
            if running:
                time.sleep(SAVE_EVERY_S)
            elif self._stays and self._runs.stops_at is None:
                self._wanted.wait(REAP_EVERY_S)
            elif self._is_done():
                return

    def _is_done(self) -> bool:
        """End the thread, unless a reply came at this very moment."""
        with self._lock:
            if self._runs.running:
                return False
            self._thread = None
            return True

    def _try(self, step: Callable[[list[Run]], None], running: list[Run]) -> None:
        """Try again at the next turn where the database is away: nothing of a reply is dropped before it is stored."""
        try:
            step(running)
        except (ApiError, StatementFailed) as error:
            log.warning("replies could not be made durable: %s", error)
            self._due.clear()
        except Exception:  # without this thread, all replies of the process would soon be taken for abandoned
            log.exception("the keeper failed unexpectedly")
            self._due.clear()

    def _tick(self, running: list[Run]) -> None:
        if self._runs.has_stopped:
            self._runs.stop_all()
        keys = [run.key for run in running]
        if running and self._is_due("renew", RENEW_EVERY_S):  # first: nothing that fails may cost the leases
            checkpoints.renew_leases(keys)
        self._save(running)
        if running and self._is_due("cancel", LOOK_FOR_CANCEL_EVERY_S):
            wanted = checkpoints.find_uncancelled(keys)
            for run in running:
                if run.started.id not in wanted:
                    run.stop(BY_USER)
        if self._stays and self._is_due("reap", REAP_EVERY_S):
            finalize.reap_abandoned()

    def _save(self, running: list[Run]) -> None:
        """Make durable what came since the last time. What may have been stored already is sent again as it was."""
        if not self._checkpoints:
            self._checkpoints = [
                Checkpoint(run, run.saved_position, chunks)
                for run in running
                if (chunks := run.log.after(run.saved_position))
            ]
        if self._checkpoints:
            checkpoints.save_checkpoints(
                (*piece.run.key, piece.begin, piece.chunks) for piece in self._checkpoints
            )
        for piece in self._checkpoints:
            piece.run.saved_position = piece.begin + sum(chunk.length for chunk in piece.chunks)
        self._checkpoints = []

    def _is_due(self, what: str, every_s: float) -> bool:
        moment = time.monotonic()
        if moment < self._due.get(what, 0):
            return False
        self._due[what] = moment + every_s
        return True
