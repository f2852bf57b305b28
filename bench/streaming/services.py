"""The services under test: each way to deploy on each database, with many streams allowed."""

import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.databases import Database, open_database
from bench.endpoints import get_request
from bench.servers import Gunicorn
from bench.setting import migrate
from bench.streaming.audience import Audience
from bench.streaming.peers import Provider

WORKER_CLASSES = {"sqlite": ("threads",), "postgres": ("threads", "gevent")}
OPEN_FILES = 16384
GRACEFUL_TIMEOUT_S = "5"


@dataclass(frozen=True)
class Service:
    """One way to deploy. `neighbour` answers everything else: a service of its own, on SQLite the same one."""

    database: Database
    worker_class: str
    folder: Path
    server: Gunicorn
    neighbour: Gunicorn
    audience: Audience

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.database.name}, {self.worker_class}"

    @property
    def has_neighbour(self) -> bool:
        """Whether plain requests go to a service of their own."""
        return self.neighbour is not self.server

    def complaints(self, lines: int = 5) -> str:
        """The last warnings and errors that it wrote, to show when something failed."""
        written = self.server.log.read_text(errors="replace").splitlines()
        return "\n".join([line for line in written if '"level":"info"' not in line][-lines:])

    def plain_get(self, conversation_id: str, token: str) -> str:
        """A GET of one conversation for the neighbour."""
        return get_request(self.neighbour.port, f"/chat/conversations/{conversation_id}", token)


@contextmanager
def running_services(
    database_name: str,
    worker_classes: Sequence[str],
    provider: Provider,
    folder: Path,
    *,
    members: int,
    streams: Mapping[str, int],
) -> Iterator[list[Service]]:
    """Start all services on an empty database; `streams`: worker class -> how many it must be able to hold."""
    folder.mkdir()
    allow_open_files()
    with open_database(database_name, folder) as database, ExitStack() as stack:
        migrate(settings_of(database, folder))
        servers = {
            worker_class: stack.enter_context(start(database, folder, worker_class, streams[worker_class]))
            for worker_class in WORKER_CLASSES[database_name]
            if worker_class in worker_classes
        }
        if not servers:
            yield []
            return
        first = next(iter(servers.values()))
        neighbour = first if database_name == "sqlite" else stack.enter_context(_rest(database, folder))
        audience = Audience(database, neighbour.port, provider, members)
        yield [
            Service(database, worker_class, folder, server, neighbour, audience)
            for worker_class, server in servers.items()
        ]


def start(database: Database, folder: Path, worker_class: str, streams: int, per_user: int = 0) -> Gunicorn:
    """A service that holds so many streams, and so many of one user (by default as many)."""
    more = {
        "WORKER_CLASS": worker_class,
        "MAX_STREAMS": str(streams),
        "MAX_STREAMS_PER_USER": str(per_user or streams),
        "GRACEFUL_TIMEOUT_S": GRACEFUL_TIMEOUT_S,
    }
    logs = folder / f"{worker_class}-{streams}"
    return _gunicorn(logs, {**settings_of(database, folder), **more})


def settings_of(database: Database, folder: Path) -> dict[str, str]:
    """The settings that all services on a database share, secrets in the folder included."""
    return {"APP_ENV": "development", "DATABASE_URL": database.url, "DATA_DIR": str(folder)}


def allow_open_files() -> None:
    """Let this process and all that it starts open as many sockets as a thousand streams take."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _rest(database: Database, folder: Path) -> Gunicorn:
    return _gunicorn(folder / "rest", {**settings_of(database, folder), "WORKER_CLASS": "threads"})


def _gunicorn(logs: Path, settings: dict[str, str]) -> Gunicorn:
    logs.mkdir(exist_ok=True)
    return Gunicorn("wsgi:app", ready_path="/readyz", folder=logs, settings=settings)
