"""The real service for tests: gunicorn in a process group of its own, which may be killed; and a client."""

import http.client
import json as json_module
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")  # not the developer's own settings
START_TIMEOUT_S = 60.0
# Below the ports that systems hand out for outgoing connections: nobody takes one while a server restarts.
PORTS = range(20000, 32000)


class GunicornServer:
    """A context manager: `gunicorn wsgi:app` on a free port with the given settings, migrated before.

    Without DATABASE_URL or DATA_DIR it keeps its SQLite file in a folder of its own, removed at the end.
    `repository` is where its code is.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        migrate: bool = True,
        repository: Path = REPOSITORY,
    ) -> None:
        self._repository = repository
        self.folder = Path(tempfile.mkdtemp(prefix="chat-api-server-"))
        self.log_path = self.folder / "log"
        self.port = free_port()
        self.environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self.environment |= {"FLASK_SKIP_DOTENV": "1", "DATA_DIR": str(self.folder / "data")}
        self.environment |= environment or {}
        self.environment |= {"HOST": "127.0.0.1", "PORT": str(self.port)}
        self._migrate = migrate
        self._master: subprocess.Popen[bytes] | None = None
        self._this_thread = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    @property
    def base_url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of gunicorn's master, which is also its process group."""
        if self._master is None:
            raise RuntimeError("The server is not running.")
        return self._master.pid

    @property
    def log(self) -> str:
        """All that it wrote to stdout and stderr so far, in one text."""
        return self.log_path.read_text(errors="replace")

    def __enter__(self) -> Self:
        try:
            if self._migrate:
                self.run_flask("db", "upgrade")
            self.start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._clean_up()

    def run_flask(self, *arguments: str) -> str:
        """Run a `flask` command with the server's settings; returns what it printed."""
        command = [sys.executable, "-m", "flask", "--app", "wsgi", *arguments]
        result = subprocess.run(
            command, cwd=self._repository, env=self.environment, capture_output=True, text=True
        )
        if result.returncode:
            raise RuntimeError(f"flask {' '.join(arguments)} failed:\n{result.stdout}{result.stderr}")
        return result.stdout

    def start(self) -> None:
        """Start it and wait until /healthz answers."""
        with self.log_path.open("ab") as log:
            self._master = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "wsgi:app"],
                cwd=self._repository,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_healthy():
            if self._master.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The server did not start:\n{self.log[-4000:]}")
            time.sleep(0.05)

    def worker_pids(self) -> list[int]:
        """The process ids of the workers, oldest first."""
        return sorted(child.pid for child in psutil.Process(self.pid).children())

    def kill_worker(self) -> int:
        """SIGKILL the oldest worker, which the master replaces; returns its process id."""
        victim = self.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        return victim

    def kill_group(self) -> None:
        """SIGKILL master and workers at once."""
        os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def kill_master_only(self) -> list[int]:
        """SIGKILL the master; returns the process ids of the workers that it leaves behind."""
        workers = self.worker_pids()
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
        return workers

    def terminate(self) -> int:
        """Ask it to stop gracefully and wait; returns the exit status."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def restart(self) -> None:
        """Stop it, where it runs, and start it again on the same port with the same data."""
        if self._master is not None:
            self.terminate()
        self.start()

    def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, Message, Any]:
        """Send `json`, or `body` as it is; returns status, headers and the parsed body (None: empty).

        The thread's connection is kept. Nothing is sent twice: an error means that the outcome is not known.
        """
        fields = dict(headers or {})
        if token is not None:
            fields["Authorization"] = f"Bearer {token}"
        if json is not None:
            body = json_module.dumps(json).encode()
            fields.setdefault("Content-Type", "application/json")
        connection = self._connection()
        try:
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        return response.status, response.headers, _parsed(content, response.headers.get_content_subtype())

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's connection, a new one where the server has closed it meanwhile."""
        connection = getattr(self._this_thread, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT_S)
            self._this_thread.connection = connection
            self._connections.append(connection)
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            connection.close()  # readable before anything was asked: it's the end of the stream
        return connection

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz", headers={"Connection": "close"})
            response = connection.getresponse()
            response.read()
            return response.status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait(self) -> int:
        """Wait until it has ended; returns the exit status."""
        if self._master is None:
            raise RuntimeError("The server is not running.")
        status = self._master.wait(START_TIMEOUT_S)
        self._master = None
        return status

    def _clean_up(self) -> None:
        for connection in self._connections:
            connection.close()
        if self._master is not None:
            try:
                os.killpg(self._master.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it had ended by itself, and its group with it
            self.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens on. Test processes share the seed of `random`, so it is not asked."""
    ports = random.SystemRandom().sample(PORTS, 100)
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("No free port found.")


def _parsed(content: bytes, subtype: str) -> Any:
    if not content:
        return None
    return json_module.loads(content) if subtype in ("json", "problem+json") else content
