"""Upgrades in processes that end at a moment which the test names: at a statement, and how.

    with UpgradeProcesses() as processes:
        processes.upgrade(url, folder, "0004")                                    # undisturbed: its statements
        processes.upgrade(url, folder, "0004", at=7, how="SIGKILL")               # None: killed at the seventh one
        processes.upgrade(url, folder, "0004", at=7, how="during")                # while the database runs it

One process imports the application and forks for each upgrade: starting Python each time would take most of the time.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HOW = ("SIGKILL", "SIGTERM", "during")
SOON_S = 0.0005  # after the statement was sent


class UpgradeProcesses:
    """A context manager: the process that forks."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.upgrades"],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.communicate()

    def upgrade(
        self, url: str, folder: Path, revision: str, *, at: int = 0, how: str = "SIGKILL"
    ) -> int | None:
        """How many statements the upgrade took; None if it was killed. Raises AssertionError if it failed."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        order = {"url": url, "folder": str(folder), "revision": revision, "at": at, "how": how}
        print(json.dumps(order), file=self._server.stdin, flush=True)
        answer = json.loads(self._server.stdout.readline())
        assert answer["status"] in (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGALRM), answer
        return answer["statements"] if answer["status"] == 0 else None


def _serve() -> None:
    import tests.conftest  # noqa: F401 - imported once, before the forks

    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _upgrade(writer, **json.loads(line))
        os.close(writer)
        with os.fdopen(reader) as pipe:
            told = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answer = {"status": status, **(json.loads(told) if told else {})}
        print(json.dumps(answer), flush=True)


def _upgrade(writer: int, *, url: str, folder: str, revision: str, at: int, how: str) -> None:
    import flask_migrate
    import sqlalchemy as sa

    from tests.conftest import serving

    statements = 0

    def count(*_: Any) -> None:
        nonlocal statements
        statements += 1
        if statements == at:
            if how == "during":
                signal.setitimer(
                    signal.ITIMER_REAL, SOON_S
                )  # SIGALRM ends the process, in whatever it is just then
            else:
                os.kill(os.getpid(), signal.Signals[how])

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", count)
    sa.event.listen(sa.engine.Engine, "commit", count)
    answer: dict[str, Any] = {}
    code = 1
    try:
        with serving(url, Path(folder)) as app, app.app_context():
            flask_migrate.upgrade(directory=str(Path(app.root_path).parent / "migrations"), revision=revision)
        answer, code = {"statements": statements}, 0
    except BaseException as error:
        answer = {"error": repr(error)}
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.write(writer, json.dumps(answer).encode())
    os._exit(code)


if __name__ == "__main__":
    _serve()
