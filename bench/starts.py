"""Starts: how long a service takes to answer /readyz on a migrated database, and an upgrade that has nothing to do."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median

from bench.processes import cpu_seconds
from bench.servers import ROOT, Database, serve_app
from bench.suite import Report, Row, Target

LIMITS_S = {"to /readyz": 0.6, "flask db upgrade": 0.5}
PACKAGES = (
    "import gc; gc.disable()\n"  # as the service
    "import flask, flask_cors, flask_jwt_extended, flask_smorest, flask_sqlalchemy, sqlalchemy.dialects.postgresql\n"
    "import argon2, cryptography.fernet, environs, gunicorn.app.wsgiapp, gunicorn.workers.gthread, psycopg"
)
# as `make install` leaves it; else each start compiles the service
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True)
class Start:
    """One start, of all processes of it."""

    cpu_s: float
    seconds: float


def measure_starts(database: Database, rounds: int, report: Report) -> list[Row]:
    """Rows of a server's start, of an upgrade, and of importing the packages that a service is built on."""
    starts: dict[str, Callable[[], Start]] = {
        "to /readyz": lambda: _serve(database),
        "flask db upgrade": lambda: _run(database, "-m", "flask", "--app", "wsgi", "db", "upgrade"),
        "packages alone": lambda: _run(database, "-c", PACKAGES),
    }
    found: dict[str, list[Start]] = {kind: [] for kind in starts}
    for number in range(rounds + 1):
        for kind, start in starts.items():
            measured = start()
            if number:  # the first ones compile what has changed, and read it from the disk
                found[kind].append(measured)
    return [_row(database.name, kind, found[kind], report) for kind in starts]


def _serve(database: Database) -> Start:
    began = time.perf_counter()
    with serve_app(database, name="start", **COMPILED) as service:
        seconds = time.perf_counter() - began
        return Start(sum(cpu_seconds([service.process.pid]).values()), seconds)


def _run(database: Database, *arguments: str) -> Start:
    """Run Python to its end."""
    environment = {**os.environ, **database.settings, **COMPILED}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Start(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds)


def _row(database: str, kind: str, found: list[Start], report: Report) -> Row:
    name = f"a start on {database}: {kind}"
    report.measurements[name] = [asdict(each) for each in found]
    cpu_s = median(each.cpu_s for each in found)
    cells = {
        "database": database,
        "start": kind,
        "CPU s": f"{cpu_s:.2f}",
        "least": f"{min(each.cpu_s for each in found):.2f}",
        "seconds": f"{median(each.seconds for each in found):.2f}",
    }
    return Row(name, cells, Target((cpu_s,), (LIMITS_S[kind],)) if kind in LIMITS_S else None)
