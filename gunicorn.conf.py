"""How gunicorn serves the application: processes, threads, limits, and mends for its stock thread worker."""

import ctypes
import http
import io
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
import time
import uuid
from functools import partial

from gunicorn import glogging, util
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from config import Config, ConfigError

try:
    settings = Config.from_environment()
except ConfigError as error:
    print(error, file=sys.stderr)
    sys.exit(os.EX_CONFIG)

LINGER_S = 2.0  # a closed connection may take this long to read its answer and close its own side
LINGER_BYTES = 16 * 1024 * 1024  # and may send so much of a body that nobody reads
STALLED_CLIENT_S = 30  # a client that neither sends nor reads for so long loses its connection
PR_SET_PDEATHSIG = 1


class Worker(ThreadWorker):
    """A thread worker that never waits for one client in its event loop and refuses requests as problem+json.

    Written against gunicorn 27.0.1: read `gthread.py` again before an upgrade.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.lingering = {}  # connection -> bytes it may still send; oldest first

    def load_wsgi(self):
        """Have malformed chunks reach the application as what it can expect from a socket: an OSError, so a 400."""
        super().load_wsgi()
        application = self.wsgi

        def with_checked_body(environ, start_response):
            if "HTTP_TRANSFER_ENCODING" in environ:
                environ["wsgi.input"] = ChunkedBody(environ["wsgi.input"])
            return application(environ, start_response)

        self.wsgi = with_checked_body

    def enqueue_req(self, conn):
        """Hand a readable connection to a thread, which may wait for the client, but not for ever.

        The kernel's timeouts outlive the `setblocking(True)` of the stock worker, Python's would not. Each
        counts from the last progress, so a slow download isn't cut off. For a client's first byte no thread
        waits at all, the poller does: as many silent clients as there are threads would stop the stock worker for 5 s.
        """
        if not (conn.initialized or conn.data_ready):
            conn.sock.setblocking(False)
            conn.timeout = time.monotonic() + STALLED_CLIENT_S
            self.pending_conns.append(conn)
            self.poller.register(
                conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn)
            )
            return
        if not conn.initialized:
            limit = struct.pack("ll", STALLED_CLIENT_S, 0)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        super().enqueue_req(conn)

    def finish_request(self, conn, fs):
        """Keep the connection, or close it without stopping the event loop.

        The stock worker waits here, in the only thread that accepts, up to 2 s for the client to close first:
        three clients that don't were enough to make the next one wait for 2 s. Here the poller waits.
        """
        if fs.cancelled() or fs.exception() or fs.result():
            super().finish_request(conn, fs)
            return
        self.lingering[conn] = LINGER_BYTES
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.drain, conn))
            conn.timeout = time.monotonic() + LINGER_S
        except (OSError, ValueError):  # the client has gone, or the socket was closed after a broken response
            self.drop(conn)

    def drain(self, conn, sock):
        """Throw away what a closed connection still sends; unread bytes would cost the client its answer."""
        try:
            received = len(sock.recv(65536))
        except BlockingIOError:
            return
        except OSError:
            received = 0
        self.lingering[conn] -= received
        if not received or self.lingering[conn] <= 0:
            self.drop(conn)

    def drop(self, conn):
        """Close a lingering connection for good."""
        del self.lingering[conn]
        try:
            self.poller.unregister(conn.sock)
        except (KeyError, ValueError):
            pass
        self.nr_conns -= 1
        conn.close()

    def set_accept_enabled(self, enabled):
        """Stop listening as soon as the worker stops: who came now would wait in the queue, only to be reset."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                listener.close()

    def _cap_keepalive(self, deadline):
        """A stopping worker waits no longer for clients that have asked nothing yet than for kept connections."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def murder_pending(self):
        """Called in every turn of the event loop: end what has lingered long enough."""
        super().murder_pending()
        while self.lingering:
            oldest = next(iter(self.lingering))
            if oldest.timeout > time.monotonic():
                break
            self.drop(oldest)

    def handle_error(self, req, client, addr, exc):
        """Answer a request that never reached the application: one shape for every error of the API.

        Neither the answer nor the log repeats what was sent, as the stock worker does: a header line without
        its colon would put a token into the log.
        """
        status, detail = _refusal(exc)
        request_id = str(uuid.uuid4())
        facts = {"request_id": request_id, "status": status, "client": addr[0] if addr else ""}
        if status == 500:
            self.log.error("request failed outside the application", exc_info=exc, extra=facts)
        else:
            self.log.warning("request refused: %s", type(exc).__name__, extra=facts)
        title = http.HTTPStatus(status).phrase
        problem = {
            "type": "about:blank",
            "title": title,
            "status": status,
            "code": title.lower().replace(" ", "_"),
            "detail": detail,
            "request_id": request_id,
        }
        body = json.dumps(problem).encode()
        head = (
            f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-ID: {request_id}\r\n\r\n"
        )
        try:
            util.write_nonblock(client, head.encode() + body)
        except OSError:
            self.log.debug("the client left before it was refused")


class ChunkedBody(io.RawIOBase):
    """A request's body in chunks; gunicorn's own raises its parser's exceptions in the middle of a view."""

    def __init__(self, body):
        self.body = body

    def readable(self):
        """Only to be read."""
        return True

    def readinto(self, buffer):
        """Read up to the size of `buffer`."""
        try:
            received = self.body.read(len(buffer))
        except errors.ParseException as error:
            raise OSError("malformed chunk") from error
        buffer[: len(received)] = received
        return len(received)


def _refusal(exc):
    """Status and detail for what gunicorn raised; the order matters, some classes derive from others."""
    answers = (
        ((errors.InvalidResponseHeader, errors.InvalidResponseHeaderName), 500, "The server failed."),
        (errors.ConfigurationProblem, 500, "The server failed."),
        (errors.LimitRequestLine, 414, "The request line is too long."),
        (errors.LimitRequestHeaders, 431, "The header fields are too large or too many."),
        (errors.ExpectationFailed, 417, "The only expectation that can be met is 100-continue."),
        (errors.UnsupportedTransferCoding, 501, "The only transfer coding that is understood is chunked."),
        (errors.ForbiddenProxyRequest, 403, "This address may not act as a proxy."),
        (errors.ParseException, 400, "The request is not well-formed HTTP."),
    )
    for kind, status, detail in answers:
        if isinstance(exc, kind):
            return status, detail
    return 500, "The server failed."


class Logger(glogging.Logger):
    """Gunicorn's own records; the access line of a request is the application's, with user and route."""

    def access(self, resp, req, environ, request_time):
        """Nothing: a configured logconfig_dict would otherwise turn the stock access line on."""

    def exception(self, msg, *args, **kwargs):
        """A client that stalled (STALLED_CLIENT_S) is a fact of life and not worth a traceback."""
        if isinstance(sys.exc_info()[1], BlockingIOError):
            self.info("connection closed: the client stalled")
        else:
            super().exception(msg, *args, **kwargs)


def post_fork(server, worker):
    """Bind the worker's life to its master's: an orphan would go on serving and keep the port.

    Linux tells the child by a signal. Elsewhere the worker notices within a second and stops gracefully.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server.pid:  # the master died between fork and prctl: the signal won't come any more
        os._exit(1)


def on_starting(server):
    """Begin the counters of /metrics at zero: the files of an earlier run would be added up with this one's."""
    if settings.metrics_folder:
        shutil.rmtree(settings.metrics_folder, ignore_errors=True)
        settings.metrics_folder.mkdir(mode=0o700, parents=True)


def child_exit(server, worker):
    """Tell the metrics that a worker has gone; what it counted stays in the sums."""
    if settings.metrics_folder:
        multiprocess.mark_process_dead(worker.pid)


if settings.metrics_folder:  # before the application is loaded: prometheus-client looks for it when imported
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(settings.metrics_folder)
    from prometheus_client import multiprocess

bind = f"[{settings.HOST}]:{settings.PORT}" if ":" in settings.HOST else f"{settings.HOST}:{settings.PORT}"
workers = settings.worker_count
threads = settings.THREADS
worker_class = Worker
worker_connections = settings.THREADS + 1000  # so many clients may wait or keep their connection, per worker
MEMORY = "/dev/shm"  # noqa: S108  # nosec B108
worker_tmp_dir = MEMORY if os.access(MEMORY, os.W_OK) else None  # heartbeats don't wait for a busy disk

timeout = 60  # the event loop's heartbeat, not a limit on requests
graceful_timeout = settings.GRACEFUL_TIMEOUT_S
keepalive = settings.KEEPALIVE_S

limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190
forwarded_allow_ips = settings.FORWARDED_ALLOW_IPS

control_socket_disable = True  # nothing here uses it, and it needs a writable home
logger_class = Logger
loglevel = settings.LOG_LEVEL
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "chat_api.logs.JsonFormatter"}},
    "handlers": {
        "stdout": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}
    },
    "root": {"level": settings.LOG_LEVEL, "handlers": ["stdout"]},
    "loggers": {
        "gunicorn.error": {"level": settings.LOG_LEVEL, "handlers": ["stdout"], "propagate": False},
        "gunicorn.access": {"handlers": [], "propagate": False},
    },
}
