"""Starts and stops the gunicorn servers under test, one worker each, on the server's core."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.processes import SERVER_CORE, family, pin

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
START_LIMIT_S = 30.0
STOP_LIMIT_S = 15.0
THREADS = 8


class Gunicorn:
    """One gunicorn master with one worker, serving `application` with the project's own gunicorn.conf.py."""

    def __init__(
        self, application: str, *, ready_path: str, folder: Path, settings: Mapping[str, str]
    ) -> None:
        self.application = application
        self.ready_path = ready_path
        self.log = folder / f"{application.partition(':')[0]}.log"
        self.port = free_port()
        self.environment = {
            **os.environ,
            **settings,
            "HOST": HOST,
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "1",
            "THREADS": str(THREADS),
        }

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
        """End the server: politely, then not."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that the server wrote, to show when something failed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
            try:
                connection.request("GET", self.ready_path)
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.1)
        raise RuntimeError(f"{self.application} did not get ready; its log ends:\n{self.log_tail()}")


def free_port() -> int:
    """A TCP port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
