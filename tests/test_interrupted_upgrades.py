"""Upgrades that are killed at any moment and repeated end as an undisturbed one does, on both databases, with data."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from flask import Flask

from chat_api.database.session import db
from chat_api.search import backlog
from tests.completions.chat import run_sql
from tests.conftest import serving
from tests.live.client import wait_until
from tests.support.postgres import create_database, drop_database
from tests.support.server import INHERITED, REPOSITORY
from tests.support.upgrades import HOW, UpgradeProcesses

pytestmark = pytest.mark.nightly

MOMENT = "2026-11-23T09:30:00.123456Z"


def all_revisions() -> list[str]:
    """From the files, so that the next one is killed, too."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(REPOSITORY / "migrations"))
    return sorted(revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions())


pytestmark = pytest.mark.nightly

REVISIONS = all_revisions()


@dataclass
class Histories:
    """Databases with data, one as of each revision, to be copied; and how the newest one looks."""

    backend: str
    folder: Path
    processes: UpgradeProcesses
    statements: dict[str, int] = field(default_factory=dict)
    schema: list[Any] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)

    @property
    def head(self) -> str:
        return REVISIONS[-1]

    def create(self) -> None:
        """Upgrade step by step, undisturbed."""
        before = "empty"
        self._new(before)
        for revision in REVISIONS:
            url = self._copy(before, revision)
            self.statements[revision] = self.processes.upgrade(url, self.folder, revision) or 0
            if revision == REVISIONS[0]:
                with serving(url, self.folder) as app:
                    fill(app)
            before = revision
        with serving(self._url(self.head), self.folder) as app:
            self.schema, self.rows = schema_of(app), rows_of(app)

    @contextmanager
    def before(self, revision: str) -> Iterator[str]:
        """The URL of a copy of the database as it was before a revision."""
        name = uuid.uuid4().hex[:12]
        index = REVISIONS.index(revision)
        try:
            yield self._copy(REVISIONS[index - 1] if index else "empty", name)
        finally:
            self._drop(name)

    def drop(self) -> None:
        for name in ("empty", *REVISIONS):
            self._drop(name)

    def _url(self, name: str) -> str:
        if self.backend == "sqlite":
            return f"sqlite:///{self.folder / name}.db"
        return f"postgresql+psycopg://{self._postgres[name]}"

    _postgres: dict[str, str] = field(default_factory=dict)

    def _new(self, name: str) -> None:
        if self.backend == "sqlite":
            (self.folder / f"{name}.db").touch()
        else:
            self._postgres[name] = create_database(self._database(name)).partition("://")[2]

    def _copy(self, name: str, copy: str) -> str:
        if self.backend == "sqlite":
            shutil.copy(self.folder / f"{name}.db", self.folder / f"{copy}.db")
        else:
            url = create_database(self._database(copy), self._database(name))
            self._postgres[copy] = url.partition("://")[2]
        return self._url(copy)

    def _drop(self, name: str) -> None:
        if self.backend == "postgres":
            drop_database(self._database(name))

    def _database(self, name: str) -> str:
        return f"history_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}_{name}"


@pytest.fixture(scope="module")
def processes() -> Iterator[UpgradeProcesses]:
    with UpgradeProcesses() as processes:
        yield processes


@pytest.fixture(scope="module")
def histories(
    backend: str, processes: UpgradeProcesses, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Histories]:
    histories = Histories(backend, tmp_path_factory.mktemp("histories"), processes)
    try:
        histories.create()
        yield histories
    finally:
        histories.drop()


def fill(app: Flask) -> None:
    """Rows of the first revision: as many messages as take revision 0004 several batches, and some of other tables.

    Newer revisions change columns of these.
    """
    users = [f"019ab2c4-5d6e-7f80-9a1b-{number:012x}" for number in (1, 2)]
    with app.app_context(), db.engine.begin() as connection:

        def insert(table: str, rows: list[dict[str, Any]]) -> None:
            names = ", ".join(rows[0])
            values = ", ".join(f":{name}" for name in rows[0])
            connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({values})"), rows)

        insert("users", [{"id": id_, "email": f"{id_}@example.org", "role": "user", "created_at": MOMENT}
                         for id_ in users])  # fmt: skip
        for user_id, count in zip(users, (3000, 2500), strict=True):
            own = {"user_id": user_id, "created_at": MOMENT}
            place = str(uuid.uuid5(uuid.UUID(user_id), "conversation"))
            insert("conversations", [{**own, "id": place, "title": "T", "message_count": count,
                                      "updated_at": MOMENT}])  # fmt: skip
            message = {**own, "conversation_id": place, "size_bytes": 9, "attachment_count": 0}
            insert("messages", [
                {**message, "id": str(uuid.uuid5(uuid.UUID(place), str(position))), "position": position,
                 "role": "user" if position > 1 else "system", "content": f"apple {position}"}
                for position in range(1, count + 1)
            ])  # fmt: skip
            first, provider_id = (str(uuid.uuid5(uuid.UUID(place), name)) for name in ("1", "provider"))
            insert("attachments", [
                {**own, "id": str(uuid.uuid5(uuid.UUID(first), str(position))), "message_id": first,
                 "position": position, "file_type": "image/png", "file_path": "p" * 1024}
                for position in range(1, 301)
            ])  # fmt: skip
            insert("llm_providers", [{"id": provider_id, "owner_id": user_id, "name": "P",
                                      "api_endpoint": "https://p.example/v1", "created_at": MOMENT}])  # fmt: skip
            insert("user_llm_configs", [{**own, "id": provider_id, "provider_id": provider_id, "api_key_hint": "6789",
                                         "sealed_api_key": "sealed", "updated_at": MOMENT}])  # fmt: skip
            insert("logins", [{**own, "id": first, "refresh_token_id": first, "expires_at": MOMENT,
                               "ends_at": MOMENT}])  # fmt: skip
            insert("idempotency_keys", [
                {**own, "id": f"{number:064x}", "fingerprint": "f" * 64, "status": 201, "answer": "sealed"}
                for number in range(300)
            ])  # fmt: skip


def schema_of(app: Flask) -> list[Any]:
    """All that the database says of tables, columns, indexes and constraints; indexes are valid."""
    if app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite"):
        return sorted(run_sql(app, "SELECT type, name, coalesce(sql, '') FROM sqlite_master"))
    assert run_sql(app, "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid") == []
    found = run_sql(
        app,
        "SELECT attrelid::regclass::text, attnum, attname, format_type(atttypid, atttypmod), attnotnull,"
        " coalesce(attstattarget, -1)::text"
        " FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relnamespace = 'public'::regnamespace AND attnum > 0",
    )
    found += run_sql(app, "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
    found += run_sql(app, "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
                          " WHERE connamespace = 'public'::regnamespace")  # fmt: skip
    return sorted(map(repr, found))


def rows_of(app: Flask) -> list[Any]:
    with app.app_context():
        names = [
            name for name in sa.inspect(db.engine).get_table_names() if not name.startswith("message_index")
        ]
    return [(name, sorted(map(repr, run_sql(app, f"SELECT * FROM {name}")))) for name in sorted(names)]


def require_same_end(histories: Histories, url: str, *, searches: bool = True) -> None:
    """The database is what it would be without interruptions, and with `searches` all messages can be indexed."""
    with serving(url, histories.folder) as app:
        assert schema_of(app) == histories.schema
        assert rows_of(app) == histories.rows
        if not searches:
            return
        with app.app_context():
            assert sum(count or 0 for count in backlog.index_backlog()) in (0, 5500)
        [(indexed,)] = run_sql(app, "SELECT count(*) FROM message_terms")
        [(messages,)] = run_sql(app, "SELECT count(*) FROM messages")
        assert indexed == messages


def killed_and_repeated(
    histories: Histories, revision: str, moments: list[tuple[int, str]], *, searches: bool = True
) -> None:
    """Kill the upgrade to a revision at each of these moments, one after the other, then let it end."""
    with histories.before(revision) as url:
        outcomes = [
            histories.processes.upgrade(url, histories.folder, revision, at=at, how=how)
            for at, how in moments
        ]
        # the timer may miss a statement that is quick, and is then cancelled with the process
        assert None in outcomes or moments[0][1] == "during", "It was never killed."
        if revision == REVISIONS[0]:
            histories.processes.upgrade(url, histories.folder, revision)
            with serving(url, histories.folder) as app:
                fill(app)
        histories.processes.upgrade(url, histories.folder, histories.head)
        require_same_end(histories, url, searches=searches)


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_upgrade_that_was_killed_can_be_repeated(histories: Histories, revision: str) -> None:
    last = histories.statements[revision]
    moments = [(last, "SIGTERM"), (last // 2, "during"), (3 * last // 4, "SIGKILL")]
    killed_and_repeated(histories, revision, moments)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("revision", REVISIONS)
def test_an_upgrade_can_be_killed_at_every_statement(histories: Histories, revision: str) -> None:
    statements = range(1, histories.statements[revision] + 1)
    for at in statements:
        killed_and_repeated(histories, revision, [(at, HOW[at % 3])], searches=False)
    killed_and_repeated(histories, revision, [(at, HOW[(at + 1) % 3]) for at in reversed(statements)])


# -- with the command itself ------------------------------------------------------------------------------


def command(url: str, folder: Path, revision: str = "head") -> "subprocess.Popen[str]":
    """`flask db upgrade`, running."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= {"DATABASE_URL": url, "DATA_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade", revision],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("revision", ["0003", "0005"])
def test_an_index_that_was_left_half_built_is_built_again(
    histories: Histories, revision: str, backend: str
) -> None:
    if backend == "sqlite":
        pytest.skip("SQLite builds an index in a transaction")
    with histories.before(revision) as url, serving(url, histories.folder) as app, app.app_context():
        with db.engine.connect() as writer:
            writer.execute(sa.text("UPDATE messages SET size_bytes = size_bytes"))  # what building waits for
            process = command(url, histories.folder, revision)
            invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
            wait_until(lambda: run_sql(app, invalid) == [(1,)])
            process.send_signal(signal.SIGKILL)
            process.communicate()
            writer.rollback()
        process = command(url, histories.folder)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        require_same_end(histories, url)


def test_a_second_upgrade_waits_for_the_first(histories: Histories, backend: str) -> None:
    with histories.before("0004") as url, serving(url, histories.folder) as app, app.app_context():
        with held_lock(app):
            first, second = command(url, histories.folder), command(url, histories.folder)
            for process in (first, second):
                assert process.stdout is not None
                wait_until(lambda out=process.stdout: "waiting for it" in out.readline())  # type: ignore[misc]
            assert run_sql(app, "SELECT version_num FROM alembic_version") == [("0003",)]
        outputs = [process.communicate()[0] for process in (first, second)]
        assert [first.returncode, second.returncode] == [0, 0], outputs
        require_same_end(histories, url)


@contextmanager
def held_lock(app: Flask) -> Iterator[None]:
    """The lock of an upgrade, as env.py takes it."""
    key = 0x63686174_00000001
    if db.engine.dialect.name == "sqlite":
        with open(f"{db.engine.url.database}-upgrade-lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    else:
        with db.engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": key})
            yield
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": key})
