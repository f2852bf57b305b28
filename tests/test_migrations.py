"""The migrations: numbered, linear, up and down, in agreement with the models, and distributed on Citus."""

import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import flask_migrate
import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask

from chat_api.conversations import service as conversations
from chat_api.database.columns import new_id
from chat_api.database.session import db, is_described
from chat_api.messages import service as messages
from tests.completions.chat import run_sql, wait_for
from tests.conftest import migrate, serving
from tests.support.api import PASSWORD, Api, new_email
from tests.support.citus import DISTRIBUTED_BY, REFERENCE, citus_extension
from tests.support.tables import fresh_database, path_in_tables

REPOSITORY = Path(__file__).resolve().parents[1]
MIGRATIONS = str(REPOSITORY / "migrations")


@pytest.fixture
def empty_app(backend: str, tmp_path: Path) -> Iterator[Flask]:
    """The application on a database without tables."""
    with fresh_database(backend, tmp_path, migrated=False) as url, serving(url, tmp_path) as app:
        yield app


def tables(app: Flask) -> set[str]:
    with app.app_context():
        names = sa.inspect(db.engine).get_table_names()
        return {name for name in names if is_described(name, "table", {})} - {"alembic_version"}


def differences(app: Flask) -> list[object]:
    """Where the database is not what the models say."""
    with app.app_context(), db.engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "compare_server_default": True, "include_name": is_described},
        )
        return list(compare_metadata(context, db.metadata))


# -- the files --------------------------------------------------------------------------------------------


def test_revisions_are_numbered_and_linear() -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", MIGRATIONS)
    script = ScriptDirectory.from_config(config)
    assert len(script.get_heads()) == 1
    revisions = list(script.walk_revisions())[::-1]
    assert [revision.revision for revision in revisions] == [f"{n:04}" for n in range(1, len(revisions) + 1)]
    assert [revision.down_revision for revision in revisions][1:] == [
        revision.revision for revision in revisions[:-1]
    ]
    for revision in revisions:
        assert re.fullmatch(rf"{revision.revision}_[a-z0-9_]+\.py", Path(revision.path).name)


# -- up and down ------------------------------------------------------------------------------------------


def test_migrations_go_up_and_down_and_up_again(empty_app: Flask) -> None:
    with empty_app.app_context():
        flask_migrate.upgrade(directory=MIGRATIONS)
        assert tables(empty_app) == set(db.metadata.tables)
        flask_migrate.downgrade(directory=MIGRATIONS, revision="base")
        assert tables(empty_app) == set()
        flask_migrate.upgrade(directory=MIGRATIONS)
    assert differences(empty_app) == []


def test_migrations_and_models_agree(app: Flask) -> None:
    assert differences(app) == []
    result = app.test_cli_runner().invoke(args=["db", "check", "-d", MIGRATIONS])
    assert result.exit_code == 0, result.output


def test_a_change_in_the_database_would_be_seen(empty_app: Flask) -> None:
    with empty_app.app_context():
        flask_migrate.upgrade(directory=MIGRATIONS)
        db.session.execute(sa.text("DROP INDEX ix_idempotency_keys_user_id_created_at"))
        db.session.execute(sa.text("ALTER TABLE messages ADD COLUMN note TEXT"))
        db.session.commit()
    assert {difference[0] for difference in differences(empty_app)} == {"add_index", "remove_column"}  # type: ignore[index]


LOCKS_TWO_TABLES = """
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    op.execute("LOCK TABLE users")
    op.execute("SELECT pg_sleep(0.5)")
    op.execute("LOCK TABLE messages")
"""


def test_an_upgrade_that_meets_a_request_in_a_deadlock_is_done_again(
    backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Postgres ends one of them. Here it is the upgrade, as it looks for deadlocks first."""
    if backend == "sqlite":
        pytest.skip("SQLite has one lock.")
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = max(path.name[:4] for path in folder.glob("versions/0*.py"))
    revision = f"{int(before) + 1:04}"
    (folder / "versions" / f"{revision}_locks.py").write_text(
        LOCKS_TWO_TABLES.format(revision=revision, before=before)
    )
    with fresh_database(backend, tmp_path) as url, serving(url, tmp_path) as app:

        def upgrade() -> None:
            with app.app_context():
                flask_migrate.upgrade(directory=str(folder))

        def is_upgrade_waiting() -> bool:
            return bool(
                run_sql(app, "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted "
                             "AND relation = 'users'::regclass")
            )  # fmt: skip

        with (
            ThreadPoolExecutor(1) as pool,
            psycopg.connect(url.replace("+psycopg", "")) as request,
        ):
            request.execute("SET deadlock_timeout = '1min'")
            request.execute("LOCK TABLE messages IN ROW EXCLUSIVE MODE")
            upgraded = pool.submit(upgrade)
            wait_for(is_upgrade_waiting)
            request.execute("LOCK TABLE users IN ROW EXCLUSIVE MODE")
            request.commit()
            upgraded.result()
        assert run_sql(app, "SELECT version_num FROM alembic_version") == [(revision,)]
    assert "trying again" in capsys.readouterr().err


# -- with rows in it --------------------------------------------------------------------------------------

MOMENT = "2026-11-23T09:30:00.123456Z"


def insert(app: Flask, table: str, **values: object) -> None:
    """Past the models, which are those of the newest revision."""
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    run_sql(app, f"INSERT INTO {table} ({names}) VALUES ({places})", **values)


def insert_conversation(app: Flask, user_id: str, count: int) -> tuple[str, list[str]]:
    """A conversation as of revision 0003, with so many messages, whose ids say nothing of their order."""
    conversation_id, ids = new_id(), [str(uuid.uuid4()) for _ in range(count)]
    insert(app, "conversations", user_id=user_id, id=conversation_id, title="T", message_count=count,
           created_at=MOMENT, updated_at=MOMENT)  # fmt: skip
    shared = {"user_id": user_id, "conversation_id": conversation_id, "role": "user", "size_bytes": 9,
              "attachment_count": 0, "created_at": MOMENT}  # fmt: skip
    for position, id_ in enumerate(ids, 1):
        insert(app, "messages", id=id_, position=position, content=f"Message {position}", **shared)
    return conversation_id, ids


def contents(app: Flask, conversation_id: str) -> list[str]:
    rows = run_sql(
        app, "SELECT content FROM messages WHERE conversation_id = :id ORDER BY position", id=conversation_id
    )
    return [content for (content,) in rows]


def test_conversations_of_before_become_one_path(empty_app: Flask) -> None:
    app = empty_app
    with app.app_context():
        flask_migrate.upgrade(directory=MIGRATIONS, revision="0003")
    user_ids = [new_id(), new_id()]
    for user_id in user_ids:
        insert(app, "users", id=user_id, email=new_email(), role="user", created_at=MOMENT)
    made = [
        (user_id, *insert_conversation(app, user_id, count)) for user_id in user_ids for count in (0, 1, 7)
    ]
    with app.app_context():
        flask_migrate.upgrade(directory=MIGRATIONS)
    for user_id, conversation_id, ids in made:
        assert path_in_tables(app, user_id, conversation_id) == ids
        place: dict[str, Any] = {"user_id": user_id, "conversation_id": conversation_id}
        with app.app_context():
            shown = conversations.get_conversation(**place)
            following = messages.append_message_and_commit(**place, role="user", content="next")
        assert (shown["message_count"], shown["archived"], shown["pinned"]) == (len(ids), False, False)
        assert (following["position"], following["parent_id"]) == (len(ids) + 1, ids[-1] if ids else None)


def test_branches_and_gaps_survive_the_way_down_and_up(backend: str, tmp_path: Path) -> None:
    with fresh_database(backend, tmp_path) as url:
        with serving(url, tmp_path) as app:
            user, kept = fork_and_cut(app)
        with serving(url, tmp_path) as app:
            with app.app_context():
                flask_migrate.downgrade(directory=MIGRATIONS, revision="0003")
            for conversation_id, texts in kept.items():
                assert contents(app, conversation_id) == texts
                # what revision 0003 takes for granted: positions without gaps, and their number
                [(count, last)] = run_sql(
                    app,
                    "SELECT message_count, (SELECT max(position) FROM messages WHERE conversation_id = :id)"
                    " FROM conversations WHERE id = :id",
                    id=conversation_id,
                )
                assert count == last == len(texts)
        migrate(url, tmp_path)
        with serving(url, tmp_path) as app:
            go_on(replace(user, app=app).log_in(), kept)
            assert differences(app) == []


def fork_and_cut(app: Flask) -> tuple[Api, dict[str, list[str]]]:
    """Conversations with branches and gaps, and the contents of each in order of position."""
    body = {"email": new_email(), "password": PASSWORD}
    user = Api(app, user=Api(app).made("/auth/register", body)).log_in()
    uncut, cut_inside, cut_at_the_end = ids = [user.conversation()["id"] for _ in range(3)]
    for conversation_id in ids:
        root = user.message(conversation_id, "1")
        second = user.message(conversation_id, "2")
        branch = user.message(conversation_id, "3", parent_id=root["id"])
        user.attachment(user.message(conversation_id, "4")["id"])
        if conversation_id != uncut:
            cut = second if conversation_id == cut_inside else branch
            assert user.delete(f"/chat/messages/{cut['id']}").status_code == 204
    kept = {conversation_id: contents(app, conversation_id) for conversation_id in ids}
    assert kept == {uncut: ["1", "2", "3", "4"], cut_inside: ["1", "3", "4"], cut_at_the_end: ["1", "2"]}
    return user, kept


def go_on(user: Api, kept: dict[str, list[str]]) -> None:
    """Each conversation is one path, with all that was kept, and takes another message."""
    for conversation_id, texts in kept.items():
        assert len(path_in_tables(user.app, user.user_id, conversation_id)) == len(texts)
        shown = user.get(f"/chat/conversations/{conversation_id}/messages").get_json()
        assert [one["content"] for one in shown] == texts
        following = user.message(conversation_id, "next")
        assert (following["position"], following["parent_id"]) == (len(texts) + 1, shown[-1]["id"])


# -- as a script ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script_for_postgres(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `flask db upgrade --sql` writes, with no database to ask."""
    environment = {
        "PATH": os.environ["PATH"],
        "DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    }
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade", "--sql"]
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_script_for_postgres_makes_all_tables(script_for_postgres: str, tmp_path: Path) -> None:
    with fresh_database("postgres", tmp_path, migrated=False) as url:
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            # one by one, as psql does: CREATE INDEX CONCURRENTLY refuses to run together with others
            for statement in script_for_postgres.split(";\n\n"):
                connection.execute(statement.encode())
        with serving(url, tmp_path) as app:
            assert differences(app) == []


def test_the_script_for_postgres_locks_no_busy_table(script_for_postgres: str, tmp_path: Path) -> None:
    squawk = shutil.which("squawk", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if squawk is None:
        pytest.skip("squawk-cli is not installed.")
    path = tmp_path / "upgrade.sql"
    path.write_text(script_for_postgres)
    taste = re.findall(r"--exclude ([a-z,-]+)", (REPOSITORY / "Makefile").read_text())
    excludes = [option for rules in taste for option in ("--exclude", rules)]
    result = subprocess.run([squawk, *excludes, path], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


# -- on Citus ---------------------------------------------------------------------------------------------


@pytest.fixture
def citus_url(tmp_path: Path) -> Iterator[str]:
    """An empty Postgres database that has an extension called citus."""
    with fresh_database("postgres", tmp_path, migrated=False) as url, citus_extension(url):
        yield url


def calls(url: str) -> list[tuple[str, str, str | None, str | None]]:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        rows = connection.execute(
            "SELECT name, kind, distributed_by, colocation FROM citus.calls ORDER BY number"
        )
        return rows.fetchall()


def test_with_citus_each_table_is_distributed_by_its_owner(citus_url: str, tmp_path: Path) -> None:
    migrate(citus_url, tmp_path)
    made = calls(citus_url)
    expected = {
        name: ("reference", None, None)
        if name in REFERENCE
        else ("distributed", DISTRIBUTED_BY[name], "none" if name == "throttle_counters" else "default")
        for name in db.metadata.tables
    }
    assert {name: how for name, *how in made} == {name: list(how) for name, how in expected.items()}
    with serving(citus_url, tmp_path) as app:
        assert differences(app) == []


def test_with_citus_migrations_go_down_and_up_again(citus_url: str, tmp_path: Path) -> None:
    """Citus refuses a transaction that changes reference and distributed tables in parallel. This extension refuses
    each change outside of the sequential mode, which is stricter: it does not see what was accessed before."""
    migrate(citus_url, tmp_path)
    with serving(citus_url, tmp_path) as app, app.app_context():
        flask_migrate.downgrade(directory=MIGRATIONS, revision="base")
        assert tables(app) == set()
        with psycopg.connect(citus_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("DELETE FROM citus.calls")
        flask_migrate.upgrade(directory=MIGRATIONS)
        assert differences(app) == []


def test_with_citus_parents_come_before_children(citus_url: str, tmp_path: Path) -> None:
    migrate(citus_url, tmp_path)
    order = [name for name, *_ in calls(citus_url)]
    for table in db.metadata.tables.values():
        for key in table.foreign_keys:
            assert order.index(key.column.table.name) < order.index(table.name), key


@pytest.mark.parametrize(
    ("statements", "refusal"),
    [
        ("CREATE TABLE t (user_id int, id int PRIMARY KEY); SELECT create_distributed_table('t', 'user_id')", "lacks"),
        ("CREATE TABLE t (user_id int); INSERT INTO t VALUES (1); SELECT create_distributed_table('t', 'user_id')",
         "not empty"),
        ("CREATE TABLE p (user_id int PRIMARY KEY); CREATE TABLE t (user_id int REFERENCES p);"
         "SELECT create_distributed_table('t', 'user_id')", "leads"),
        ("CREATE TABLE p (user_id int, id int, PRIMARY KEY (user_id, id));"
         "CREATE TABLE t (user_id int, p int, owner int, FOREIGN KEY (owner, p) REFERENCES p);"
         "SELECT create_distributed_table('p', 'user_id');"
         "SELECT create_distributed_table('t', 'user_id')", "leads"),
    ],
    ids=["unique without owner", "rows", "parent not distributed", "key without owner"],
)  # fmt: skip
def test_this_citus_refuses_what_citus_refuses(citus_url: str, statements: str, refusal: str) -> None:
    with psycopg.connect(citus_url.replace("+psycopg", "")) as connection:
        connection.execute("SET citus.multi_shard_modify_mode TO 'sequential'")
        with pytest.raises(psycopg.errors.RaiseException, match=refusal):
            connection.execute(statements.encode())


def test_the_service_runs_on_tables_that_were_distributed(citus_url: str, tmp_path: Path) -> None:
    migrate(citus_url, tmp_path)
    with serving(citus_url, tmp_path) as app:
        body = {"email": new_email(), "password": PASSWORD}
        user = Api(app, user=Api(app).made("/auth/register", body)).log_in()
        assert user.message(user.conversation()["id"])["position"] == 1
