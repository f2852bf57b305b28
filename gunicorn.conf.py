"""Configuration of gunicorn: processes, threads or greenlets, limits, and hooks at start and end."""

import ctypes
import gc
import os
import signal
import sys

gc.disable()  # until all is imported, see wsgi.py

from config import Config, ConfigError, misspelt_settings

try:
    settings = Config.from_environment()
except ConfigError as error:
    for line in str(error).splitlines():
        print(f"Error: {line}", file=sys.stderr)
    sys.exit(os.EX_CONFIG)

if settings.WORKER_CLASS == "gevent":
    # before the application is imported: psycopg decides when it is imported whether its waits block the process
    from gevent import monkey

    monkey.patch_all()
    from chat_api.server.greenlets import Worker
else:
    from chat_api.server.threads import Worker

from gunicorn import systemd

from chat_api import factory  # noqa: F401 - in the master: its workers share what it has imported
from chat_api.attachments.slots import MAX_DOWNLOADS, MAX_UPLOADS
from chat_api.auth.passwords import MAX_WAITING as MAX_HASHING
from chat_api.completions.preparing import MAX_PREPARING
from chat_api.server import lifecycle, memory
from chat_api.server.listening import CannotListen, documentation_url, require_free
from chat_api.server.log import Logger
from chat_api.server.pace import Pace
from chat_api.telemetry import metrics
from chat_api.web import spool

if settings.METRICS_TOKEN:
    from chat_api.telemetry import exposition  # noqa: F401 - as the factory
if not settings.database_url.startswith("sqlite"):
    from chat_api.database import postgres_driver  # noqa: F401

PR_SET_PDEATHSIG = 1


def pre_fork(server, worker):
    """Reserve counters for the worker: those of all workers are in memory that the master has."""
    worker.counters = metrics.reserve_counters(settings.worker_count) if settings.METRICS_TOKEN else None
    if settings.METRICS_TOKEN and worker.counters is None:
        server.log.warning("/metrics does not count one of the workers: there are too many")


def post_fork(server, worker):
    """Prepare the worker's process."""
    metrics.use_counters(worker.counters)
    memory.return_large_blocks()
    memory.share_arenas()
    if sys.platform == "linux":
        end_with_master(server)


def end_with_master(server):
    """End the worker when its master dies: an orphan would go on serving and keep the port.

    Linux sends the worker a signal. Elsewhere it notices within a second and stops gracefully.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server.pid:  # the master died between fork and prctl: no signal will come
        os._exit(1)


def post_worker_init(worker):
    """The worker has loaded the application and is about to serve it."""
    lifecycle.start_serving()


def worker_exit(server, worker):
    """The worker has stopped serving, and its process is about to end."""
    if worker.is_this_process:
        worker.finish_shutdown()


def on_starting(server):
    """Check what only a server needs: its port. Delete the temporary files of processes that were killed."""
    spool.remove_leftovers(settings.DATA_DIR)
    for sentence in misspelt_settings():
        server.log.warning(sentence)
    is_inherited = server.master_pid or systemd.listen_fds(unset_environment=False)
    try:
        if not is_inherited:  # an upgrade (USR2) or systemd hands over a socket that is listening
            require_free(server.cfg.address)
    except CannotListen as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


def when_ready(server):
    """Say where to begin. What is in memory by now stays: no worker looks through it, and so copies it, for garbage."""
    gc.freeze()
    gc.enable()
    for listener in server.LISTENERS:
        if isinstance(listener.getsockname(), tuple):  # no Unix socket
            server.log.info("The API's documentation is at %s", documentation_url(listener.getsockname()))


def child_exit(server, worker):
    """Keep what an ended worker has counted."""
    metrics.keep_counters(worker.counters)


bind = f"[{settings.HOST}]:{settings.PORT}" if ":" in settings.HOST else f"{settings.HOST}:{settings.PORT}"
workers = settings.worker_count
worker_class = Worker
if settings.WORKER_CLASS != "gevent":
    Worker.running_requests = settings.THREADS
Worker.running_requests_per_user = settings.requests_per_user
Pace.bytes_per_s = settings.CLIENT_RATE_BYTES
Pace.longest_s = settings.CLIENT_TIMEOUT_S
# a stream keeps its thread, and so do uploads, downloads, files that are prepared and passwords that are hashed;
# threads are started on demand
threads = settings.THREADS + settings.MAX_STREAMS + MAX_UPLOADS + MAX_DOWNLOADS + MAX_PREPARING + MAX_HASHING
# connections per worker: 1,000 that wait or are idle, and those of running requests
worker_connections = 1000 + (settings.MAX_STREAMS if settings.WORKER_CLASS == "gevent" else threads)
MEMORY = "/dev/shm"  # noqa: S108  # nosec B108
worker_tmp_dir = MEMORY if os.access(MEMORY, os.W_OK) else None  # heartbeats must not wait for a busy disk

# limit of the event loop's heartbeat, not of requests; it does not beat while completions end in `worker_exit`
timeout = max(60, settings.GRACEFUL_TIMEOUT_S + 30)
graceful_timeout = settings.GRACEFUL_TIMEOUT_S
keepalive = settings.KEEPALIVE_S

limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190
forwarded_allow_ips = settings.FORWARDED_ALLOW_IPS

control_socket_disable = True  # unused here, and it needs a writable home
logger_class = Logger
loglevel = settings.LOG_LEVEL
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "chat_api.telemetry.logs.JsonFormatter"}},
    "handlers": {
        "stdout": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}
    },
    "root": {"level": settings.LOG_LEVEL, "handlers": ["stdout"]},
    "loggers": {
        "gunicorn.error": {"level": settings.LOG_LEVEL, "handlers": ["stdout"], "propagate": False},
        "gunicorn.access": {"handlers": [], "propagate": False},
    },
}
