"""Every command of `flask` answers a fault of the settings or the database in a line, never with a traceback."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup

from chat_api import create_app
from chat_api.database.session import db
from chat_api.operations.command_errors import load_app
from chat_api.operations.terminal import printable
from config import Config
from tests.conftest import migrate
from tests.support.api import PASSWORD, Api
from tests.support.cli import run_flask
from tests.support.postgres import create_database, drop_database
from tests.support.server import INHERITED, REPOSITORY

# what a command needs on its command line; {folder} is a copy of the migrations, {file} an import file
ARGUMENTS = {
    "users create": ["nobody@example.org", "--password", PASSWORD],
    "users set-role": ["nobody@example.org", "admin"],
    "users delete": ["nobody@example.org", "--yes"],
    "export": ["nobody@example.org", "-"],
    "import": ["nobody@example.org", "{file}"],
    "backup": ["{file}.new"],
    "restore": ["{file}"],
    "openapi write": ["{file}"],
    "db merge": ["head"],
    "db stamp": ["head"],
    "db show": ["head"],
}
SERVERS = {"run", "demo-provider", "shell"}  # they wait for clients or for input, and connect to nothing
USES_DATABASE = {
    *(
        "users create",
        "users set-role",
        "users delete",
        "keys rotate",
        "keys check",
        "search rebuild",
        "purge",
        "retention",
    ),
    *("export", "import", "backup"),
}
CONNECTS = USES_DATABASE | {"db upgrade", "db downgrade", "db current", "db stamp", "db migrate", "db check"}


def commands(group: click.Command, context: click.Context, path: str = "") -> Iterator[str]:
    """The names of all commands below a group."""
    if not isinstance(group, click.Group):
        yield path
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from commands(command, context, f"{path} {name}".strip())


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """All commands of `flask --help`."""
    config = Config.from_environment(DATA_DIR=str(tmp_path_factory.mktemp("data")), DATABASE_URL="")
    group = FlaskGroup(create_app=lambda: load_app(lambda: create_app(config)), load_dotenv=False)
    with group.make_context("flask", ["routes"]) as context:
        found = list(commands(group, context))
    assert found == list(dict.fromkeys(found))
    assert set(found) >= CONNECTS | SERVERS
    return found


@pytest.fixture
def run_command(tmp_path: Path) -> Callable[[Callable[[], Flask], str], Result]:
    """Run a command with arguments that fit, on files of the test's own."""
    migrations, file = tmp_path / "migrations", tmp_path / "file"

    def run(load: Callable[[], Flask], name: str) -> Result:
        if not migrations.exists():
            shutil.copytree(REPOSITORY / "migrations", migrations)
        file.write_bytes(b"{}\n")
        arguments = [argument.format(file=file) for argument in ARGUMENTS.get(name, [])]
        words = name.split()
        if words[0] == "db" and name != "db list-templates":
            words += ["--directory", str(migrations)]
        return run_flask(load, *words, *arguments)

    return run


def assert_one_line(result: Result, name: str) -> None:
    """It fails with a line on standard error and prints nothing else."""
    outcome = f"flask {name}: {result.exit_code} {result.output!r} {result.exception!r}"
    assert isinstance(result.exception, SystemExit), outcome
    assert result.exit_code > 0, outcome
    assert re.fullmatch(r"Error: [^\n]+\n", result.stderr), outcome
    assert result.stdout == "", outcome


# -- settings ---------------------------------------------------------------------------------------------

BAD_SETTINGS = {
    "PORT": ["http", "0", "65536", "", "9" * 5000],
    "APP_ENV": ["staging"],
    "LOCAL_ACCOUNTS": ["perhaps"],
    "DATABASE_URL": [
        *("mysql://u:hunter2@h/x", "postgresql://u:hunter2@h:port/x", "postgresql://u:hunter2@h:70000/x"),
        *("postgresql://u:hunter2@[::1/x", "sqlite://", "sqlite:///", "sqlite:///x?timeout=hunter2"),
        *("nonsense", "://", "postgresql+psycopg2://u:hunter2@h/x"),
    ],
    "DATABASE_WAIT_S": ["99999999999"],
    "REFRESH_TOKEN_DAYS": ["999999999999"],
    "ACCESS_TOKEN_MINUTES": ["-1", "1.5"],
    "MAX_STREAMS": ["1000000"],
    "JWT_SECRET_KEY": ["hunter2", "hunter2-\udcff" * 8],
    "ENCRYPTION_KEYS": ["hunter2", "hunter2-\udcff", "hunter2\n\x1b[2J"],
    "LOGIN_LIMIT_PER_ACCOUNT": ["many"],
    "OUTGOING_ALLOWED": ["http://h"],
    "FORWARDED_ALLOW_IPS": ["proxy", "127.0.0.1;::1"],
    "OIDC_KEYS": ["/nowhere", "/", __file__, "http://user:hunter2@h/"],
    "DATA_DIR": [__file__, "/proc/none"],
}


@pytest.mark.parametrize(
    ("setting", "value"),
    [(setting, value) for setting, values in BAD_SETTINGS.items() for value in values],
    ids=lambda text: ascii(text)[:40],
)
def test_every_command_answers_a_bad_setting(
    names: list[str],
    run_command: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    setting: str,
    value: str,
) -> None:
    for name in Config.__dataclass_fields__:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv(setting, value)
    for name in [*names, "--help"]:
        if name == "db list-templates" or name.startswith("run"):
            continue  # the first needs no application; `flask run` is the next test's
        result = run_command(create_app, name)
        assert_one_line(result, name)
        assert result.exit_code == os.EX_CONFIG
        assert f"setting {setting}: " in result.stderr
        assert "hunter2" not in result.stderr
    assert not list(tmp_path.glob("*.db"))


@pytest.mark.parametrize(
    "command", [["purge"], ["db", "upgrade"], ["run"], ["--help"], ["routes"]], ids=lambda words: words[-1]
)
def test_the_real_flask_does_so_too_with_all_bad_settings_at_once(command: list[str], tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "FLASK_SKIP_DOTENV": "1", "DATA_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *command],
        cwd=REPOSITORY,
        env=environment | {"PORT": "http", "THREADS": "0", "APP_ENV": "production"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (os.EX_CONFIG, "")
    lines = result.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["Error", f"setting {name}"] for name in ("ENCRYPTION_KEYS", "JWT_SECRET_KEY", "PORT", "THREADS")
    ]


# -- the database -----------------------------------------------------------------------------------------


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def not_a_database(folder: Path) -> tuple[str, str]:
    (folder / "chat.db").write_bytes(b"hello, I am a text file\n" * 1000)
    return sqlite_url(folder / "chat.db"), "file is not a database"


def a_folder(folder: Path) -> tuple[str, str]:
    (folder / "chat.db").mkdir()
    return sqlite_url(folder / "chat.db"), "unable to open database file"


def folder_that_is_not_there(folder: Path) -> tuple[str, str]:
    return sqlite_url(folder / "none" / "chat.db"), "unable to open database file"


def locked(folder: Path) -> tuple[str, str]:
    """Somebody else's transaction; never closed, its end is the process's."""
    connection = sqlite3.connect(folder / "chat.db", isolation_level=None)
    connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
    connection.execute("BEGIN EXCLUSIVE")
    LOCKS.append(connection)
    return sqlite_url(folder / "chat.db"), "database is locked"


def postgres_away(folder: Path) -> tuple[str, str]:
    return "postgresql://nobody:hunter2@127.0.0.1:1/none", "refused"


def unknown_host(folder: Path) -> tuple[str, str]:
    return "postgresql://nobody:hunter2@no-host.invalid/none", "no-host.invalid"


def no_such_socket(folder: Path) -> tuple[str, str]:
    return f"postgresql://nobody:hunter2@/none?host={folder}", str(folder)


def unknown_option(folder: Path) -> tuple[str, str]:
    return "postgresql://nobody:hunter2@127.0.0.1:1/none?colour=red", "colour"


def no_such_database(folder: Path) -> tuple[str, str]:
    url = create_database("command_errors_none")
    drop_database("command_errors_none")
    return url, 'database "command_errors_none" does not exist'


def wrong_user(folder: Path) -> tuple[str, str]:
    return no_such_database(folder)[0].replace("postgres@", "hunter:hunter2@"), 'role "hunter" does not exist'


LOCKS: list[sqlite3.Connection] = []
UNUSABLE = [not_a_database, a_folder, folder_that_is_not_there, locked, postgres_away, unknown_host, no_such_socket,
            unknown_option, no_such_database, wrong_user]  # fmt: skip


@pytest.mark.nightly
@pytest.mark.parametrize("prepare", UNUSABLE, ids=lambda prepare: prepare.__name__)
def test_every_command_answers_an_unusable_database(
    names: list[str],
    run_command: Callable[..., Result],
    tmp_path: Path,
    prepare: Callable[[Path], tuple[str, str]],
) -> None:
    url, cause = prepare(tmp_path)
    app = create_app(
        Config.from_environment(DATA_DIR=str(tmp_path / "data"), DATABASE_URL=url, DATABASE_WAIT_S=1)
    )
    try:
        for name in names:
            if name in SERVERS:
                continue
            result = run_command(lambda: app, name)
            assert result.exception is None or isinstance(result.exception, SystemExit), f"flask {name}"
            if name in CONNECTS:
                assert_one_line(result, name)
                assert "database " in result.stderr
                assert cause in result.stderr, result.stderr
                assert "hunter2" not in result.stderr
    finally:
        while LOCKS:
            LOCKS.pop().close()
        dispose(app)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables, of the test's own."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "chat.db")
        return
    name = f"command_errors_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    yield create_database(name)
    drop_database(name)


def no_schema(url: str, folder: Path) -> None:
    """The database is empty."""


def older_schema(url: str, folder: Path) -> None:
    migrate(url, folder)
    set_revision(url, "0003")


def newer_schema(url: str, folder: Path) -> None:
    migrate(url, folder)
    set_revision(url, "9999")


def set_revision(url: str, revision: str) -> None:
    statement = f"UPDATE alembic_version SET version_num = '{revision}'"
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute(statement)
    else:
        with psycopg.connect(url.replace("+psycopg", "")) as other:
            other.execute(statement.encode())


@pytest.mark.parametrize(
    ("prepare", "advice"),
    [
        (no_schema, "it has no schema yet; run `flask db upgrade`."),
        (older_schema, "run `flask db upgrade`."),
        (newer_schema, "install the version that made it."),
    ],
    ids=["no_schema", "older_schema", "newer_schema"],
)
def test_every_command_answers_another_schema(
    names: list[str],
    run_command: Callable[..., Result],
    empty_url: str,
    tmp_path: Path,
    prepare: Callable[[str, Path], None],
    advice: str,
) -> None:
    prepare(empty_url, tmp_path / "data")
    app = create_app(Config.from_environment(DATA_DIR=str(tmp_path / "data"), DATABASE_URL=empty_url))
    try:
        for name in names:
            if name in SERVERS or name in ("db upgrade", "db downgrade", "db stamp"):
                continue  # these change the schema
            result = run_command(lambda: app, name)
            assert result.exception is None or isinstance(result.exception, SystemExit), f"flask {name}"
            if name in USES_DATABASE:
                assert_one_line(result, name)
                assert advice in result.stderr
    finally:
        dispose(app)


def dispose(app: Flask) -> None:
    with app.app_context():
        db.engine.dispose()


# -- what is not the operator's fault ---------------------------------------------------------------------


def test_a_fault_of_the_code_keeps_its_traceback(app: Flask) -> None:
    def broken() -> None:
        db.session.execute(db.text("INSERT INTO alembic_version VALUES (NULL)"))

    app.cli.add_command(click.Command("broken", callback=broken))
    try:
        result = run_flask(lambda: app, "broken")
    finally:
        app.cli.commands.pop("broken")
    assert type(result.exception).__name__ == "IntegrityError"


def test_a_full_disk_is_a_line(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device", "/some/file")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    result = run_flask(lambda: app, "import", ada.user["email"], "-", stdin=b"{}")
    assert result.exit_code == 1
    assert result.stderr.endswith("Error: The server has no disk space for the file; retry later.\n")


# -- settings that are no settings --------------------------------------------------------------------------


def test_a_misspelt_setting_is_named_by_commands(only_user: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABSE_URL", "postgresql://u:hunter2@h/x")
    result = run_flask(lambda: only_user.app, "purge")
    assert result.exit_code == 0
    assert result.stderr == "Warning: DATABSE_URL is not a setting; did you mean DATABASE_URL?\n"


@pytest.mark.parametrize("command", ["purge", "db"])
def test_env_file_is_read_by_commands(command: str, tmp_path: Path) -> None:
    """Whoever runs `flask` in a folder with a `.env`, as flask has always done."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    (tmp_path / ".env").write_text(f"DATA_DIR={tmp_path / 'data'}\nMAX_STREAM=5\n")
    shutil.copytree(REPOSITORY / "migrations", tmp_path / "migrations")
    words = {"purge": ["purge"], "db": ["db", "current"]}[command]
    result = subprocess.run(
        [sys.executable, "-m", "flask", "--app", str(REPOSITORY / "wsgi"), *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "MAX_STREAM is not a setting; did you mean MAX_STREAMS?" in result.stderr
    assert (tmp_path / "data" / "chat.db").exists()
    assert "Traceback" not in result.stderr


# -- control characters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain – ü 漢字 😀", "plain – ü 漢字 😀"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("two\r\nlines\ttab", r"two\r\nlines\ttab"),
        ("\x9b31m", r"\x9b31m"),  # CSI in one character
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\u2028\u2029\x85\ud800\x00", r"\u2028\u2029\x85\ud800\x00"),
    ],
)
def test_no_character_that_a_terminal_obeys_is_printed(text: str, printed: str) -> None:
    assert printable(text) == printed


def test_commands_print_stored_and_foreign_text_harmlessly(app: Flask, ada: Api, tmp_path: Path) -> None:
    evil = "\x1b[2J\x9b31m\u202e"
    file = tmp_path / "file"
    file.write_text('{"type":"header","version":' + f'"{evil}"' + "}\n")
    runs = [
        ("users", "create", f"{evil}@example.org", "--password", PASSWORD),
        ("users", "set-role", f"{evil}@example.org", "admin"),
        ("users", "delete", evil, "--yes"),
        ("export", evil, "-"),
        ("export", ada.user["email"], str(tmp_path / evil / "none")),
        ("import", ada.user["email"], str(file)),
    ]
    for arguments in runs:
        result = run_flask(lambda: app, *arguments)
        assert result.exit_code == 1, arguments
        assert not set(result.output) & set(evil) - set("[2J31m"), (arguments, result.output)
