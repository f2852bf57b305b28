"""`flask backup` and `flask restore`: everything that was acknowledged, in one file, while somebody writes."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from click.testing import Result
from flask import Flask

from chat_api.conversations.models import Conversation
from chat_api.database import statements
from chat_api.database.session import db
from chat_api.messages import service as messages
from chat_api.messages.models import Message
from chat_api.operations import backup
from tests.conftest import migrate, serving
from tests.live.client import PATIENCE_S, wait_until
from tests.support.api import PASSWORD, Api, new_email
from tests.support.cli import run_flask
from tests.support.postgres import create_database, drop_database
from tests.support.server import INHERITED, REPOSITORY
from tests.support.tables import owned_rows

MAX_ERROR_LINES = 2  # the label of the progress bar and the error


@pytest.fixture
def make_database(backend: str, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Make an empty database without a schema; its URL."""
    made: list[str] = []

    def make(name: str) -> str:
        if backend == "sqlite":
            return f"sqlite:///{tmp_path / name}.db"
        full_name = f"backup_{name}_{os.getpid()}"
        drop_database(full_name)
        made.append(full_name)
        return create_database(full_name)

    yield make
    for name in made:
        drop_database(name)


@pytest.fixture
def source(make_database: Callable[[str], str], tmp_path: Path) -> Iterator[Flask]:
    """An application on a migrated database of the test's own."""
    url = make_database("source")
    migrate(url, tmp_path)
    with serving(url, tmp_path) as app:
        yield app


@pytest.fixture
def author(source: Flask) -> Api:
    """Somebody with a conversation, its words in the search index, and what else an account has."""
    created = run(source, "users", "create", email := new_email(), "--password", PASSWORD)
    assert created.exit_code == 0, created.output
    return Api(source, user={"email": email}).log_in()


def run(app: Flask, *arguments: str) -> Result:
    return run_flask(lambda: app, *arguments)


def succeed(app: Flask, *arguments: str) -> str:
    result = run(app, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(app: Flask, *arguments: str) -> str:
    """The error of a command that fails, which is one line after the label of the progress bar."""
    result = run(app, *arguments)
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) <= MAX_ERROR_LINES, result.output
    assert lines[-1].startswith("Error: "), result.output
    return lines[-1]


def begin_conversation(author: Api, *contents: str) -> str:
    made = author.post("/chat/conversations", {"user_id": author.user["id"], "title": "Backed up"})
    conversation_id: str = made.get_json()["id"]
    for content in contents:
        say(author, conversation_id, content)
    return conversation_id


def say(author: Api, conversation_id: str, content: str) -> None:
    body = {"conversation_id": conversation_id, "role": "user", "content": content}
    assert author.post("/chat/messages", body).status_code == 201


ODD = "Odd: \\N \\. \t\n\r tab, \x7f, ünï, 𝔘, 'quotes' \"double\" \\\\ and a \u2028 separator"


def test_a_restored_backup_is_the_same_service(
    source: Flask, author: Api, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    conversation_id = begin_conversation(author, "a needle in a haystack", ODD)
    provider = author.post("/chat/llm-providers", {"name": "P", "api_endpoint": "https://p.example/v1"})
    config = {"user_id": author.user["id"], "provider_id": provider.get_json()["id"], "api_key": "secret-key"}
    assert author.post("/chat/user-llm-configs", config).status_code == 201
    file = tmp_path / "backup"
    assert "1 users, 1 conversations and 2 messages" in succeed(source, "backup", str(file))
    assert file.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.glob("*backup*")] == ["backup"]
    with source.app_context():
        before = owned_rows(source, author.user["id"])

    settings = {name: source.config[name] for name in ("JWT_SECRET_KEY", "ENCRYPTION_KEYS")}
    with serving(make_database("target"), tmp_path, **settings) as target:
        assert "2 messages" in succeed(target, "restore", str(file))
        with target.app_context():
            assert owned_rows(target, author.user["id"]) == before
        again = Api(target, author.token, user=author.user)
        contents = [
            message["content"]
            for message in again.get(f"/chat/conversations/{conversation_id}/messages").get_json()
        ]
        assert contents == ["a needle in a haystack", ODD]
        assert len(again.get("/chat/search?q=needle").get_json()) == 1
        say(again, conversation_id, "and it goes on")
        assert len(again.get("/chat/search?q=goes").get_json()) == 1


def test_everything_acknowledged_before_it_began_is_in_it(
    source: Flask, author: Api, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    """A writer goes on during the whole backup, which neither waits for it nor keeps it waiting."""
    conversation_id = begin_conversation(author, *(f"before {number}" for number in range(20)))
    file = tmp_path / "backup"
    with writing(source, author, conversation_id) as acknowledged:
        before = list(acknowledged)
        succeed(source, "backup", str(file))
    with serving(make_database("target"), tmp_path) as target:
        succeed(target, "restore", str(file))
        with target.app_context():
            found = set(db.session.scalars(sa.select(Message.content)))
            counted = db.session.scalar(sa.select(Conversation.message_count))
    assert {f"before {number}" for number in range(20)} | set(before) <= found
    assert counted == len(found)  # one moment, not the middle of a transaction


@contextmanager
def writing(app: Flask, author: Api, conversation_id: str) -> Iterator[list[str]]:
    """Post messages, one after the other, during the block; what was acknowledged so far."""
    acknowledged: list[str] = []
    waits_s: list[float] = []
    ended = threading.Event()

    def write() -> None:
        writer = Api(app, author.token)
        while not ended.is_set():
            content = f"while {len(acknowledged)}"
            began = time.monotonic()
            say(writer, conversation_id, content)
            waits_s.append(time.monotonic() - began)
            acknowledged.append(content)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while len(acknowledged) < 5:
            time.sleep(0.01)
        yield acknowledged
    finally:
        ended.set()
        thread.join()
    assert max(waits_s) < 5


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_some_hundred_mebibytes_are_backed_up_in_bounded_time_while_somebody_writes(
    source: Flask, author: Api, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    conversation_id = begin_conversation(author, "first")
    with source.app_context():
        for batch in range(300):
            with statements.transaction():
                for number in range(100):
                    content = f"{batch}-{number} " + os.urandom(4500).hex()
                    messages.append_message(
                        user_id=author.user["id"],
                        conversation_id=conversation_id,
                        role="user",
                        content=content,
                        words=[str(number)],
                    )
    file = tmp_path / "backup"
    with writing(source, author, conversation_id) as acknowledged:
        began = time.monotonic()
        before = len(acknowledged)
        succeed(source, "backup", str(file))
        took_s = time.monotonic() - began
        during = len(acknowledged) - before
    print(f"{file.stat().st_size / 2**20:.0f} MiB in {took_s:.1f} s, {during} writes during it")
    assert took_s < 120
    assert during > 10
    with serving(make_database("target"), tmp_path) as target:
        succeed(target, "restore", str(file))
        with target.app_context():
            assert (db.session.scalar(sa.select(sa.func.count(Message.id))) or 0) >= 30_001 + before


def test_an_existing_file_is_never_replaced(source: Flask, tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("precious")
    assert "exists" in fail(source, "backup", str(file))
    assert file.read_text() == "precious"


def test_a_file_that_appears_during_the_backup_is_not_replaced(source: Flask, tmp_path: Path) -> None:
    file = tmp_path / "precious"

    def progress(done: int, total: int) -> None:
        file.write_text("precious")

    with source.app_context(), pytest.raises(FileExistsError):
        backup.back_up(file, progress)
    assert file.read_text() == "precious"
    assert not list(tmp_path.glob(".precious*"))


def test_a_backup_that_fails_leaves_nothing(source: Flask, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    with source.app_context(), pytest.raises(KeyboardInterrupt):
        backup.back_up(tmp_path / "backup", interrupt)
    assert {path for path in set(tmp_path.iterdir()) - before if "backup" in path.name} == set()


@contextmanager
def backing_up(app: Flask, backend: str, file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`flask backup` in a process of its own that is in the middle of it."""
    url = app.config["DATABASE_URL"]
    with ExitStack() as stack:
        if backend == "postgres":  # it waits for the table
            connection = stack.enter_context(psycopg.connect(url.replace("+psycopg", "")))
            connection.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        else:
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS filler AS SELECT randomblob(60000000) AS content"
                )
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= {"DATABASE_URL": url, "DATA_DIR": str(file.parent)}
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "backup", str(file)]
        with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE) as process:
            wait_until(
                lambda: any(path.name.startswith(f".{file.name}.") for path in unfinished_in(file.parent))
            )
            yield process
            process.kill()


def unfinished_in(folder: Path) -> list[Path]:
    return list(folder.glob(".*.part*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_backup_that_is_ended_by_a_signal_leaves_nothing(
    source: Flask, backend: str, tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "backup"
    with backing_up(source, backend, file) as process:
        process.send_signal(number)
        assert process.wait(PATIENCE_S) != 0
        assert b"Traceback" not in process.communicate()[1]
    assert not unfinished_in(tmp_path)
    assert not file.exists()


def test_the_next_backup_deletes_what_a_killed_one_has_left(
    source: Flask, backend: str, tmp_path: Path
) -> None:
    with backing_up(source, backend, tmp_path / "killed") as process:
        process.kill()
        process.wait(PATIENCE_S)
    assert unfinished_in(tmp_path)
    with backing_up(source, backend, tmp_path / "another") as process:
        running = set(unfinished_in(tmp_path))
        assert all(path.name.startswith(".another.") for path in running), "It has deleted the other one."
        elsewhere, old = (tmp_path / f".{name}.0123abcd-1.chat-api.part" for name in ("new", "old"))
        foreign = tmp_path / ".video.part"
        for path in (elsewhere, old, foreign):
            path.touch()
            os.utime(path, (0, 0) if path != elsewhere else None)
        if backend == "sqlite":
            process.send_signal(signal.SIGSTOP)
            succeed(source, "backup", str(tmp_path / "third"))
            assert set(unfinished_in(tmp_path)) == running | {elsewhere, foreign}
            process.send_signal(signal.SIGCONT)
            assert process.wait(PATIENCE_S) == 0
            assert set(unfinished_in(tmp_path)) == {elsewhere, foreign}


def test_a_folder_that_is_not_there_is_one_line_without_control_characters(
    source: Flask, tmp_path: Path
) -> None:
    error = fail(source, "backup", str(tmp_path / "no\x1b[31mwhere" / "backup"))
    assert "No such file or directory" in error
    assert "\x1b" not in error


def test_restore_refuses_a_database_with_rows_unless_it_may_overwrite(
    source: Flask, author: Api, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    begin_conversation(author, "in the backup")
    file = tmp_path / "backup"
    succeed(source, "backup", str(file))
    begin_conversation(author, "after the backup")
    assert "not empty" in fail(source, "restore", str(file))
    assert contents_of(source) == {"in the backup", "after the backup"}
    succeed(source, "restore", "--overwrite", str(file))
    assert contents_of(source) == {"in the backup"}


def test_a_migrated_database_without_rows_is_empty(
    source: Flask, author: Api, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    begin_conversation(author, "in the backup")
    succeed(source, "backup", str(tmp_path / "backup"))
    url = make_database("target")
    migrate(url, tmp_path)
    with serving(url, tmp_path) as target:
        succeed(target, "restore", str(tmp_path / "backup"))
        assert contents_of(target) == {"in the backup"}


def contents_of(app: Flask) -> set[str]:
    with app.app_context():
        found = set(db.session.scalars(sa.select(Message.content)))
        db.session.rollback()
        return found


def test_a_damaged_backup_is_refused_before_anything_changes(
    source: Flask, author: Api, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    begin_conversation(author, *(f"{number} " + os.urandom(2000).hex() for number in range(30)))
    file = tmp_path / "backup"
    succeed(source, "backup", str(file))
    sound = file.read_bytes()
    kept = contents_of(source)
    middle = len(sound) // 2
    for damaged in (
        b"",
        b"hello, I am a text file\n" * 100,
        sound[:middle],
        sound[:middle] + bytes(8192) + sound[middle + 8192 :],
    ):
        file.write_bytes(damaged)
        error = fail(source, "restore", "--overwrite", str(file))
        assert "damaged" in error or "not a backup" in error or "incomplete" in error, error
        assert "backup" in error, error
        assert contents_of(source) == kept


def test_a_backup_with_an_unknown_schema_is_refused(
    source: Flask, author: Api, backend: str, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    succeed(source, "backup", str(file))
    pretend_revision(file, backend, "9999")
    with serving(make_database("target"), tmp_path) as target:
        assert "does not know the backup's schema (9999)" in fail(target, "restore", str(file))


def pretend_revision(file: Path, backend: str, revision: str) -> None:
    if backend == "sqlite":
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        return
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    head = max(path.name[:4] for path in Path("migrations/versions").glob("0*.py"))
    entries["manifest.json"] = entries["manifest.json"].replace(
        f'"revision": "{head}"'.encode(), f'"revision": "{revision}"'.encode()
    )
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def test_a_backup_of_the_other_database_is_refused(
    source: Flask, author: Api, backend: str, tmp_path: Path
) -> None:
    file = tmp_path / "other"
    if backend == "sqlite":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("manifest.json", "{}")
    else:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE x (y)")
    assert "not a backup of" in fail(source, "restore", "--overwrite", str(file))


def test_a_failed_restore_changes_nothing(source: Flask, author: Api, backend: str, tmp_path: Path) -> None:
    """On Postgres: a row that a constraint refuses, at the end of everything else."""
    if backend == "sqlite":
        pytest.skip("SQLite's backup copies pages, and no constraint looks at them.")
    begin_conversation(author, "in the backup")
    file = tmp_path / "backup"
    succeed(source, "backup", str(file))
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["tables/messages"] = entries["tables/messages"].replace(b"\tuser\t", b"\tnobody\t")
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    result = run(source, "restore", "--overwrite", str(file))
    assert isinstance(result.exception, psycopg.Error | SystemExit)
    assert contents_of(source) == {"in the backup"}
