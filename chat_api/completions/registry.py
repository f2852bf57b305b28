"""The replies that are being written in this process: a thread of its own for each, which appends to a log.

A client's connection is only a reader of the log, so it may leave and come back, and a slow one slows nobody.
`RunRegistry` knows all replies of the process: it bounds their number, makes them durable (see `supervisor`) and ends
them when the process is stopped.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable

from flask import Flask, current_app

from ..database.columns import new_id
from ..egress.errors import EgressError
from ..egress.gate import Gate
from ..egress.limits import RESPONSE_BYTES
from ..egress.policy import address_settings
from ..errors import ApiError, BestEffort, NotFound, ProviderFailed, Unavailable, problem_body
from ..llm.client import Client, Limits
from ..llm.model_lists import Model
from ..llm.provider_check import CHECK_S, Report, check_provider
from ..llm.request import Endpoint
from ..llm_providers.learned_options import remember_and_commit
from ..server import lifecycle
from ..server.slots import Slot, Slots, stream_slots
from ..telemetry import metrics
from .finalize import Outcome, end_unstored, finalize_and_commit
from .records import StartedCompletion, StoredCompletion
from .reply_files import ReplyFiles
from .reply_line import write_line
from .run import BY_SHUTDOWN, Run, problem_of
from .supervisor import Supervisor

EXTENSION = "chat_api.completions"
# waits between tries to finalize while the database is away; the last one repeats
RETRY_S = (0.1, 0.25, 0.5, 1.0, 2.0)
LAST_TRIES_S = 2.0  # a process that must end still tries to finalize for so long
FIRST_SENT_S = 0.002  # so long a reply's request goes before its client's answer

SHORTEST_PACE_S = 0.033  # thirty updates a second look as smooth as a film
MAX_WAKE_UPS_PER_S = 2000  # of one process, for all its replies

log = logging.getLogger(__name__)


class RunRegistry:
    """All replies in progress of this process, and the clients that wait for one."""

    def __init__(self, app: Flask) -> None:
        self._app = weakref.ref(app)
        self._slots = Slots(
            app.config["MAX_STREAMS"], full="This server is at its limit of concurrent completions; retry."
        )
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._unstored: dict[str, Run] = {}  # of which the supervisor has nothing to look after
        self._worker_id: str | None = None
        self._client: Client | None = None
        self.stops_at: float | None = None  # monotonic time; None: not being stopped
        self._supervisor = Supervisor(self)

    @property
    def app(self) -> Flask:
        """The application; threads outlive the request that started them."""
        app = self._app()
        if app is None:
            raise RuntimeError("The application is gone.")
        return app

    @property
    def worker_id(self) -> str:
        """What this process is called in leases; made in the worker itself, as a fork copies what is there before."""
        with self._lock:
            self._worker_id = self._worker_id or new_id()
            return self._worker_id

    @property
    def client(self) -> Client:
        """The client for providers, made when it is first needed: an idle worker does without its modules."""
        with self._lock:
            if self._client is None:
                self._client = _new_client(self.app, self._pace_s)
            return self._client

    @property
    def running(self) -> list[Run]:
        """The replies in progress that are stored."""
        with self._lock:
            return list(self._runs.values())

    @property
    def _all_running(self) -> list[Run]:
        with self._lock:
            return [*self._runs.values(), *self._unstored.values()]

    @property
    def has_stopped(self) -> bool:
        """Whether the time of a process that is being stopped is over."""
        return self.stops_at is not None and time.monotonic() >= self.stops_at

    def _pace_s(self) -> float:
        """How long to wait between two reads of one provider, so that a wake-up takes several chunks along.

        A wake-up costs more than reading. The more replies a process writes, the fewer each may cause.
        """
        return max(SHORTEST_PACE_S, len(self._runs) / MAX_WAKE_UPS_PER_S)

    def find(self, user_id: str, completion_id: str) -> Run | None:
        """The user's reply, if it is being written here."""
        run = self._runs.get(completion_id) or self._unstored.get(completion_id)
        return run if run is not None and run.completion.user_id == user_id else None

    def take_slot(self) -> Slot:
        """Take a slot for a reply, before anything of it is stored. Raises Unavailable where none is free."""
        if self.stops_at is not None:
            raise Unavailable("The server is shutting down; retry.")
        return self._slots.take()

    def start(self, completion: StartedCompletion, slot: Slot, *, is_stored: bool = True) -> Run:
        """Let the provider write a reply that is stored as begun; the slot is released when it has ended.

        Of one that is not `is_stored` nothing is stored at its end either: it is for its reader alone.
        """
        run = Run(completion, is_stored=is_stored)
        slot.hand_over()
        with self._lock:
            (self._runs if is_stored else self._unstored)[completion.id] = run
        thread = threading.Thread(
            target=self._write, args=(run, slot), name=f"reply-{completion.id}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads; a refusal would hide what is stored already
            self._write(run, slot, _out_of_threads(completion))
            return run
        if is_stored:
            with BestEffort("starting the supervisor"):  # the next reply tries again
                self._supervisor.wake()
        # what this thread has left to do would keep the other one from sending: one of them runs at a time
        run.was_sent.wait(FIRST_SENT_S)
        return run

    def list_models(self, user_id: str, endpoint: Endpoint) -> list[Model]:
        """The models that a provider offers. Raises ProviderFailed, and what `Slots.take` raises.

        A slow provider keeps a thread of the server's waiting, as a stream does, so it takes such a slot.
        """
        with stream_slots().take(user_id):
            try:
                return self.client.list_models(endpoint)
            except EgressError as error:
                raise ProviderFailed(problem_of(error)) from None

    def check_provider(self, user_id: str, endpoint: Endpoint, model: str | None) -> Report:
        """Whether a provider works. Raises what `Slots.take` raises; it takes such a slot, too."""
        with stream_slots().take(user_id):
            return check_provider(self.client.within(CHECK_S), endpoint, model)

    def close_connections(self) -> None:
        """Close the connections to providers that nobody uses."""
        with self._lock:
            client = self._client
        if client is not None:
            client.close()

    def stop_all(self, by: str = BY_SHUTDOWN) -> None:
        """Stop all replies; they finalize in their own threads."""
        for run in self._all_running:
            run.stop(by)

    def start_serving(self) -> None:
        """Look after replies of dead workers, too, from now on."""
        self._supervisor.stay()

    def begin_shutdown(self, deadline: float) -> None:
        """Take no more replies, and let those in progress go on until `deadline` (monotonic)."""
        self.stops_at = deadline

    def finish_shutdown(self) -> None:
        """Wait for the replies until the deadline, if there is one, then stop and finalize them."""
        if self.stops_at is None:
            self.stops_at = time.monotonic()
        while self._all_running and not self.has_stopped:
            time.sleep(0.05)
        self.stop_all()
        for run in self._all_running:
            run.wait(LAST_TRIES_S + 1)
        self._supervisor.finish(LAST_TRIES_S)
        self.close_connections()

    def _write(self, run: Run, slot: Slot, outcome: Outcome | None = None) -> None:
        """The life of a reply's thread. Whatever happens in it, the readers learn of its end.

        With an `outcome` it ends at once, and the provider is not called.
        """
        with self.app.app_context():
            ended: StoredCompletion | None = None
            lost: ApiError | None = None
            files = ReplyFiles(self.app, run.completion, is_stopped=run.was_stopped, is_stored=run.is_stored)
            try:
                outcome = outcome or run.produce(self.client, files)
                ended = self._finalized(run, outcome)
            except NotFound as error:  # deleted, with its message, its conversation or its owner
                lost = error
            except Exception as error:  # a run that stays would keep its lease and its readers for ever
                log.error(
                    "a reply could not be finalized",
                    exc_info=error,
                    extra={"completion_id": run.completion.id},
                )
                lost = error if isinstance(error, ApiError) else Unavailable()
            finally:
                self._forget(
                    run, slot
                )  # first: a client that sees the end may ask for the next reply at once
            if ended is not None or isinstance(
                lost, NotFound
            ):  # else another worker finalizes it, with its files
                files.drop_unattached_and_commit()
            if run.corrected is not None:
                _remember(run)
            run.close(ended, lost)
            with BestEffort("logging a reply"):
                write_line(run)
            with BestEffort("counting a completion"):
                metrics.count_completion(run.ended.row["status"] if run.ended else "lost")

    def _finalized(self, run: Run, outcome: Outcome) -> StoredCompletion:
        """Store the end; keep trying while the database is away.

        Raises NotFound where the conversation was deleted, Unavailable where the process must end before.
        """
        if not run.is_stored:
            return end_unstored(run.completion, log=run.log, outcome=outcome)
        tries = 0
        while True:
            try:
                return finalize_and_commit(
                    run.completion, worker_id=self.worker_id, log=run.log, outcome=outcome
                )
            except Unavailable:
                if self.stops_at is not None and time.monotonic() > self.stops_at + LAST_TRIES_S:
                    raise
                time.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1

    def _forget(self, run: Run, slot: Slot) -> None:
        with self._lock:
            self._runs.pop(run.completion.id, None)
            self._unstored.pop(run.completion.id, None)
        slot.release()


def _remember(run: Run) -> None:
    """Keep what the provider's server complained about, so that the next request is made as it wants it."""
    completion, corrected = run.completion, run.corrected
    if corrected is None or not (corrected.of_server or corrected.of_caller):
        return
    with BestEffort("remembering a provider's complaint"):
        remember_and_commit(
            user_id=completion.user_id,
            provider_id=completion.provider_id,
            version=completion.settings_version,
            model=completion.model,
            of_server=corrected.of_server,
            of_caller=corrected.of_caller,
        )


def _out_of_threads(completion: StartedCompletion) -> Outcome:
    return Outcome(
        status="failed",
        finish_reason="error",
        problem=problem_body(503, "unavailable", "The server is out of threads; retry."),
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=0,
        usage_estimated=True,
    )


def _new_client(app: Flask, pace_s: Callable[[], float]) -> Client:
    config = app.config
    gate = Gate(**address_settings(config), proxy=config["OUTGOING_PROXY"])
    limits = Limits(
        connect_s=config["PROVIDER_CONNECT_TIMEOUT_S"],
        first_byte_s=config["PROVIDER_FIRST_BYTE_TIMEOUT_S"],
        idle_s=config["PROVIDER_IDLE_TIMEOUT_S"],
        total_s=config["PROVIDER_TOTAL_TIMEOUT_S"],
        reply_bytes=config["MAX_REPLY_BYTES"],
        file_bytes=config["MAX_REPLY_FILE_BYTES"],
        # as Base64 they take four bytes for three
        response_bytes=max(RESPONSE_BYTES, 2 * config["MAX_REPLY_FILE_BYTES"]),
    )
    return Client(gate, limits, pace_s=pace_s)


def init_app(app: Flask) -> None:
    """Give the application its registry of replies; nothing is started yet."""
    registry = app.extensions[EXTENSION] = RunRegistry(app)
    lifecycle.register(registry)


def run_registry() -> RunRegistry:
    """The replies in progress of the current application."""
    registry: RunRegistry = current_app.extensions[EXTENSION]
    return registry
