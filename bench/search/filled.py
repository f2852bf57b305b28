"""A database with the messages of two users in a folder: filled when it is first asked for, found there later."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bench.account import Account
from bench.search.corpus import entries
from bench.search.fill import Progress, fill, id_at
from bench.servers import Gunicorn
from bench.setting import migrate
from chat_api.search_index.lexemes import number_of, plain_text, vector_text
from chat_api.search_index.tokenizer import words
from tests.support.postgres import Cluster

POSTGRES_SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
SAMPLES = 100


@dataclass(frozen=True)
class Filled:
    """A database that runs, and how its first user, who searches, logs in."""

    name: str
    url: str
    folder: Path
    size: int
    credentials: dict[str, str]

    @property
    def settings(self) -> dict[str, str]:
        """The environment of a service on it."""
        return _settings(self.url, self.folder)


@contextmanager
def filled(name: str, folder: Path, size: int, progress: Progress) -> Iterator[Filled]:
    """The database `name` with `size` messages of each user in `folder`; runs within the block, and stays there."""
    folder = folder / f"{name}-{size}"
    if name == "sqlite":
        folder.mkdir(parents=True, exist_ok=True)
        yield _filled(name, f"sqlite:///{folder / 'bench.db'}", folder, size, progress)
        return
    (folder / "pg").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # Postgres runs as somebody else if we are root
    cluster = Cluster(folder / "pg", POSTGRES_SETTINGS)
    cluster.start()
    try:
        yield _filled(name, cluster.url, folder, size, progress)
    finally:
        cluster.stop()


def _filled(name: str, url: str, folder: Path, size: int, progress: Progress) -> Filled:
    record, shape = folder / "filled.json", _shape()
    if record.exists():
        stored = json.loads(record.read_text())
        if stored["shape"] != shape:
            raise SystemExit(f"{folder} was filled by another version: remove it, or take another folder.")
        return Filled(name, url, folder, size, stored["credentials"])
    settings = _settings(url, folder)
    migrate(settings)
    with Gunicorn("wsgi:app", ready_path="/readyz", folder=folder, settings=settings) as service:
        accounts = [Account(service.port) for _ in range(2)]
    fill(url, [account.user_id for account in accounts], size, progress)
    credentials = accounts[0].credentials
    record.write_text(json.dumps({"shape": shape, "credentials": credentials}))
    return Filled(name, url, folder, size, credentials)


def _settings(url: str, folder: Path) -> dict[str, str]:
    return {"APP_ENV": "development", "DATABASE_URL": url, "DATA_DIR": str(folder)}


def _shape() -> str:
    """Of how messages are stored, seen in the first ones."""
    digest = hashlib.sha256()
    for entry in islice(entries(SAMPLES), SAMPLES):
        place, message = id_at(entry.time_ms, 1), id_at(entry.time_ms, 2)
        texts = (
            plain_text(place, words(entry.content)),
            vector_text(place, place, message, words(entry.content)),
        )
        digest.update(repr((entry, texts, number_of(message))).encode())
    return digest.hexdigest()
