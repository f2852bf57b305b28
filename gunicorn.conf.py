"""How gunicorn serves the application: processes, threads or greenlets, limits, and hooks at start and end."""

import ctypes
import os
import shutil
import signal
import sys

from config import Config, ConfigError

try:
    settings = Config.from_environment()
except ConfigError as error:
    print(error, file=sys.stderr)
    sys.exit(os.EX_CONFIG)

if (
    settings.metrics_folder
):  # before the application is imported: prometheus-client looks for it at its own import
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(settings.metrics_folder)

if settings.WORKER_CLASS == "gevent":
    # before the application is imported: psycopg decides at its import whether its waits block a process
    from gevent import monkey

    monkey.patch_all()
    from chat_api.server.greenlets import Worker
else:
    from chat_api.server.threads import Worker

from chat_api.server import lifecycle
from chat_api.server.log import Logger

PR_SET_PDEATHSIG = 1


def post_fork(server, worker):
    """Bind the worker's life to its master's: an orphan would go on serving and keep the port.

    Linux tells the child by a signal. Elsewhere the worker notices within a second and stops gracefully.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server.pid:  # the master died between fork and prctl: the signal won't come any more
        os._exit(1)


def post_worker_init(worker):
    """The worker has loaded the application and is about to serve it."""
    lifecycle.start_serving()


def worker_exit(server, worker):
    """The worker has stopped serving; its process ends with this."""
    if worker.is_this_process:
        worker.finish_shutdown()


def on_starting(server):
    """Begin the counters of /metrics at zero: the files of an earlier run would be added up with this one's."""
    if settings.metrics_folder:
        shutil.rmtree(settings.metrics_folder, ignore_errors=True)
        settings.metrics_folder.mkdir(mode=0o700, parents=True)


def child_exit(server, worker):
    """Tell the metrics that a worker has gone; what it counted stays in the sums."""
    if settings.metrics_folder:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)


bind = f"[{settings.HOST}]:{settings.PORT}" if ":" in settings.HOST else f"{settings.HOST}:{settings.PORT}"
workers = settings.worker_count
worker_class = Worker
Worker.places = settings.THREADS
threads = settings.THREADS + settings.MAX_STREAMS  # a stream keeps its thread; they are started when needed
# so many clients may wait or keep their connection, per worker, beside those that are being answered
worker_connections = 1000 + (settings.MAX_STREAMS if settings.WORKER_CLASS == "gevent" else threads)
MEMORY = "/dev/shm"  # noqa: S108  # nosec B108
worker_tmp_dir = MEMORY if os.access(MEMORY, os.W_OK) else None  # heartbeats don't wait for a busy disk

# the event loop's heartbeat, not a limit on requests; there is none while replies end in `worker_exit`
timeout = max(60, settings.GRACEFUL_TIMEOUT_S + 30)
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
