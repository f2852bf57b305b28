"""A database with the messages of two users in a folder: filled when it is first opened, and reused later."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bench.client import Account
from bench.search.corpus import entries
from bench.search.fill import fill, id_at
from bench.servers import Database, running_database, serve_app
from chat_api.search_index.lexemes import number_of, plain_text, vector_text
from chat_api.search_index.tokenizer import words
from tests.support.postgres import Cluster

POSTGRES_SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
SAMPLES = 100


@dataclass(frozen=True)
class Filled:
    """A running database, and how its first user, who searches, logs in."""

    database: Database
    size: int
    credentials: dict[str, str]

    @property
    def name(self) -> str:
        """The database's."""
        return self.database.name


@contextmanager
def filled(name: str, folder: Path, size: int) -> Iterator[Filled]:
    """The database `name` with `size` messages of each user in `folder`; runs within the block, and stays there."""
    folder = folder / f"{name}-{size}"
    (folder / "pg").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # as root, Postgres runs as another user
    record, shape = folder / "filled.json", _shape()
    stored = json.loads(record.read_text()) if record.exists() else None
    if stored and stored["shape"] != shape:
        raise SystemExit(f"{folder} was filled by another version: remove it, or use another folder.")
    with running_database(name, folder, Cluster(folder / "pg", POSTGRES_SETTINGS)) as database:
        if stored is None:
            with serve_app(database) as service:
                accounts = [Account(service.port) for _ in range(2)]
            fill(database.url, [account.user_id for account in accounts], size)
            stored = {"shape": shape, "credentials": accounts[0].credentials}
            record.write_text(json.dumps(stored))
        yield Filled(database, size, stored["credentials"])


def _shape() -> str:
    """A digest of how messages are stored, computed from the first ones."""
    digest = hashlib.sha256()
    for entry in islice(entries(SAMPLES), SAMPLES):
        conversation, message = id_at(entry.time_ms, 1), id_at(entry.time_ms, 2)
        found = words(entry.content)
        texts = plain_text(conversation, found), vector_text(conversation, conversation, message, found)
        digest.update(repr((entry, texts, number_of(message))).encode())
    return digest.hexdigest()
