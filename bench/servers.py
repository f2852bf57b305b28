"""Starts and stops what a measurement needs: databases, gunicorn with one worker, and processes with pipes.

Servers under test run on one core; databases, providers and load generators on the other.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psycopg

from bench.processes import LOAD_CORE, SERVER_CORE, family, pin
from tests.support.postgres import Cluster, PrivatePostgres

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
START_LIMIT_S = 30.0
STOP_LIMIT_S = 15.0
THREADS = 8


@dataclass(frozen=True)
class Database:
    """A migrated database. `server_pids`: whose CPU time is the database's; none if it lives in the service."""

    name: str
    url: str
    folder: Path
    server_pids: list[int]

    @property
    def settings(self) -> dict[str, str]:
        """The settings that all services on it share, secrets in the folder included."""
        return {"APP_ENV": "development", "DATABASE_URL": self.url, "DATA_DIR": str(self.folder)}


class Gunicorn:
    """One gunicorn master with one worker, serving `application` with the project's own gunicorn.conf.py."""

    def __init__(self, application: str, folder: Path, settings: Mapping[str, str], ready_path: str) -> None:
        self.application = application
        self.ready_path = ready_path
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{application.partition(':')[0]}.log"
        self.port = free_port()
        own = {"HOST": HOST, "PORT": str(self.port), "WEB_CONCURRENCY": "1", "THREADS": str(THREADS)}
        self.environment = {**os.environ, **settings, **own}

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", self.application],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        pin([self.process.pid], SERVER_CORE)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def worker(self) -> int:
        """The process that answers requests."""
        workers = family(self.process.pid)[1:]
        if len(workers) != 1:
            raise RuntimeError(f"expected one worker of {self.application}, found {len(workers)}")
        return workers[0]

    def stop(self) -> None:
        """End the server: with SIGTERM, and if that takes too long with SIGKILL."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def complaints(self, lines: int = 15) -> str:
        """The last lines of its log above the level of information."""
        written = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line for line in written if '"level":"info"' not in line][-lines:])

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
            try:
                connection.request("GET", self.ready_path)
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.01)
        raise RuntimeError(f"{self.application} did not start; its log ends:\n{self.complaints()}")


def serve_app(database: Database, *, name: str = "service", **settings: str) -> Gunicorn:
    """The service on a database; its log goes to the folder `name`."""
    return Gunicorn("wsgi:app", database.folder / name, {**database.settings, **settings}, "/readyz")


def serve_hello(folder: Path, **settings: str) -> Gunicorn:
    """The yardstick: a bare Flask route under the same gunicorn."""
    base = {"APP_ENV": "development", "DATABASE_URL": "", "DATA_DIR": str(folder)}
    return Gunicorn("bench.hello:app", folder, {**base, **settings}, "/hello")


@contextmanager
def running_database(name: str, folder: Path, cluster: Cluster | None = None) -> Iterator[Database]:
    """A SQLite file in a folder, or Postgres: a new one that is as durable as its defaults make it, or `cluster`.

    The tables are made if they are missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if name == "sqlite":
        database = Database(name, f"sqlite:///{folder / 'bench.db'}", folder, [])
        migrate(database)
        yield database
        return
    with ExitStack() as stack:
        if cluster is None:
            cluster = stack.enter_context(PrivatePostgres())
        else:
            cluster.start()
            stack.callback(cluster.stop)
        postmaster = int((cluster.folder / "data" / "postmaster.pid").read_text().split()[0])
        pin(family(postmaster), LOAD_CORE)
        database = Database(name, cluster.url, folder, [postmaster])
        migrate(database)
        yield database


def migrate(database: Database) -> None:
    """Make the tables, as an operator would."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"]
    environment = {**os.environ, **database.settings}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


def renew_statistics(database: Database) -> None:
    """Have Postgres count the rows that are there by now, as it does by itself within a minute.

    Before that it takes all tables for small ones, and may look for a conversation among all of its user's, with an
    entry for each of its former versions.
    """
    if database.name == "postgres":
        with psycopg.connect(database.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("ANALYZE")


class PipedProcess(subprocess.Popen[str]):
    """A module of ours that runs on the load generator's core and is spoken to by stdin and stdout."""

    stdin: IO[str]
    stdout: IO[str]

    def __init__(self, module: str) -> None:
        command = [sys.executable, "-m", module]
        super().__init__(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.module = module
        pin([self.pid], LOAD_CORE)

    def finish(self, text: str = "") -> str:
        """Write to its stdin, close that, and wait for all of its stdout."""
        answer, _ = self.communicate(text or None)
        if self.returncode != 0:
            raise RuntimeError(f"{self.module} failed; its own message stands above")
        return answer


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
