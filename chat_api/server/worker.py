"""What both worker classes do in the same way, as a mixin to be named before gunicorn's class."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gunicorn import util
from gunicorn.http.body import ChunkedReader, LengthReader

from ..web.request_body import WAITING_FOR_CLIENT
from . import lifecycle
from .chunked import ChunkedBody
from .refusals import Refusal
from .slots import REQUEST_SLOT, RequestSlot, UserShares, receiving_slots, request_slots

SKIPPED_BYTES = 64 * 1024  # gunicorn gives up from here on


def is_left_unread(body: Any) -> bool:
    """Whether so much of a request's body is unread that gunicorn closes the connection instead of skipping it.

    The answer then has to say `Connection: close` (RFC 9112, section 9.6), or the client's next request is lost.
    """
    reader = body.reader
    if isinstance(reader, ChunkedReader):
        return reader.parser is not None
    return isinstance(reader, LengthReader) and reader.length >= SKIPPED_BYTES


class ServiceWorker:
    """Refuses requests as problem+json, checks chunked bodies, and ends replies in progress before it ends."""

    # gunicorn's class has them
    alive: bool
    cfg: Any
    log: Any
    wsgi: Any

    running_requests: int | None = None  # how many run at the same time; None: any number
    running_requests_per_user = 6
    deadline = math.inf  # when replies have to end, in a worker that is being stopped (monotonic time)

    def load_wsgi(self) -> None:
        """Serve the application with the bounds of this worker."""
        super().load_wsgi()  # type: ignore[misc]
        self.application = self.wsgi
        self.wsgi = self._in_slot(self._with_checked_body(self.application))

    def _in_slot(self, application: Any) -> Any:
        """Bound how many requests run at the same time, of all users and of one.

        A response that is a stream holds no slot: it is made of what the application returned already. A view that
        waits for something calls `slots.release_request_slot` first.
        """
        free = None if self.running_requests is None else request_slots(self.running_requests)
        shares = UserShares(self.running_requests_per_user)

        def in_slot(environ: dict[str, Any], start_response: Any) -> Any:
            environ[REQUEST_SLOT] = slot = RequestSlot(free, shares)
            try:
                return application(environ, start_response)
            finally:
                slot.release()

        return in_slot

    def _with_checked_body(self, application: Any) -> Any:
        """Bound how many requests wait for their bodies, and have malformed chunks reach the application as what it
        can expect from a socket: an OSError, so a 400."""
        receiving = receiving_slots()

        def with_checked_body(environ: dict[str, Any], start_response: Any) -> Any:
            slot: RequestSlot = environ[REQUEST_SLOT]

            @contextmanager
            def waiting_for_client(client: str) -> Iterator[None]:
                with receiving.take(client), slot.while_waiting():
                    yield

            environ[WAITING_FOR_CLIENT] = waiting_for_client
            body = environ["wsgi.input"]
            if "HTTP_TRANSFER_ENCODING" in environ:
                environ["wsgi.input"] = ChunkedBody(body)

            def start_response_after(*answer: Any) -> Any:
                if is_left_unread(body):
                    start_response.__self__.force_close()
                return start_response(*answer)

            return application(environ, start_response_after)

        return with_checked_body

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that never reached the application."""
        refusal = Refusal(exc, addr)
        if refusal.status == 500:
            self.log.error("request failed outside the application", exc_info=exc, extra=refusal.facts)
        else:
            self.log.warning("request refused: %s", type(exc).__name__, extra=refusal.facts)
        try:
            util.write_nonblock(client, refusal.answer)
        except OSError:
            self.log.debug("the client left before it was refused")

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: replies may go on for most of the grace."""
        self._begin_shutdown(self.cfg.graceful_timeout)
        super().handle_exit(sig, frame)  # type: ignore[misc]

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT and SIGQUIT: replies end now."""
        self._begin_shutdown(0)
        super().handle_quit(sig, frame)  # type: ignore[misc]

    def _begin_shutdown(self, grace_s: float) -> None:
        """A second signal may shorten the time, never lengthen it."""
        deadline = lifecycle.deadline_after(grace_s)
        if deadline < self.deadline:
            self.deadline = deadline
            lifecycle.begin_shutdown(deadline)

    def finish_shutdown(self) -> None:
        """As the last act of the worker's process: wait for replies that no request waits for."""
        self._begin_shutdown(self.cfg.graceful_timeout)  # it may have stopped without a signal
        lifecycle.finish_shutdown()

    @property
    def is_this_process(self) -> bool:
        """Whether this is the worker itself; the master has an object for it, too."""
        return bool(self.pid == os.getpid())  # type: ignore[attr-defined]
