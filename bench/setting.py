"""What runs while a database is measured: the database, the service on it, the yardstick beside it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.account import Account
from bench.databases import Database, open_database
from bench.endpoints import Stage
from bench.servers import ROOT, Gunicorn


@dataclass(frozen=True)
class Setting:
    """One database and what was started on it. `stage` is what the requests refer to."""

    database: Database
    service: Gunicorn
    yardstick: Gunicorn
    stage: Stage


@contextmanager
def running_setting(database_name: str, folder: Path) -> Iterator[Setting]:
    """Start everything on an empty database in an empty folder; stop it with the block."""
    folder.mkdir()
    with open_database(database_name, folder) as database:
        settings = {"APP_ENV": "development", "DATABASE_URL": database.url, "DATA_DIR": str(folder)}
        migrate(settings)
        with (
            Gunicorn("wsgi:app", ready_path="/readyz", folder=folder, settings=settings) as service,
            Gunicorn("bench.hello:app", ready_path="/hello", folder=folder, settings=settings) as yardstick,
        ):
            stage = Stage(Account(service.port), service.port)
            stage.prepare()
            yield Setting(database, service, yardstick, stage)


def migrate(settings: dict[str, str]) -> None:
    """Make the tables, as an operator would."""
    subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"],
        cwd=ROOT,
        env={**os.environ, **settings},
        check=True,
        stdout=subprocess.DEVNULL,
    )
