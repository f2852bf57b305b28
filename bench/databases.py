"""The databases under the service: a fresh SQLite file, or a private Postgres that comes as a package."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import LOAD_CORE, family, pin
from tests.support.postgres import PrivatePostgres

NAMES = ("sqlite", "postgres")


@dataclass(frozen=True)
class Database:
    """A fresh database. `server_pids`: whose CPU time is the database's; none if it lives in the service."""

    name: str
    url: str
    server_pids: list[int]


@dataclass(frozen=True)
class Postgres(Database):
    """A Postgres server of its own, as durable as its defaults make it, on the load generator's core."""

    log: Path


@contextmanager
def open_database(name: str, folder: Path) -> Iterator[Database]:
    """The database called `name`, empty; gone with the block or with the folder."""
    if name == "sqlite":
        yield Database("sqlite", f"sqlite:///{folder / 'bench.db'}", [])
        return
    with PrivatePostgres() as cluster:
        postmaster = int((cluster.folder / "data" / "postmaster.pid").read_text().split()[0])
        pin(family(postmaster), LOAD_CORE)
        yield Postgres("postgres", cluster.url, [postmaster], cluster.folder / "log")
