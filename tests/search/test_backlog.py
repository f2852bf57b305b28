"""Indexing what is there already: interrupted, repeated, and while others write. On databases of the tests' own."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.dialect import is_postgres
from chat_api.database.fleet_lock import try_fleet_lock
from chat_api.database.session import db
from chat_api.operations import maintenance
from chat_api.search import backlog
from chat_api.search.backlog import GREATEST_ID
from tests.completions.chat import run_sql
from tests.conftest import serving
from tests.live.client import SETTINGS, wait_until
from tests.search.test_search import PATH, found, say, search
from tests.support.api import PASSWORD, Api, new_email
from tests.support.server import GunicornServer
from tests.support.tables import fresh_database


@pytest.fixture(autouse=True)
def _short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten messages are a batch: so a few have several."""
    monkeypatch.setattr(backlog, "MESSAGES_AT_ONCE", 10)
    monkeypatch.setattr(backlog, "SQLITE_BATCH_S", 0.0)
    monkeypatch.setattr(backlog, "POSTGRES_BATCH_S", 0.0)


@pytest.fixture
def url(backend: str, tmp_path: Path) -> Iterator[str]:
    with fresh_database(backend, tmp_path) as url:
        yield url


@pytest.fixture
def own_app(url: str, tmp_path: Path) -> Iterator[Flask]:
    with serving(url, tmp_path) as app:
        yield app


@pytest.fixture
def user(own_app: Flask) -> Api:
    return registered(own_app)


def registered(app: Flask) -> Api:
    body = {"email": new_email(), "password": PASSWORD}
    return Api(app, user=Api(app).made("/auth/register", body)).log_in()


def forget_words(app: Flask, *, replaces: bool = False) -> None:
    """As an upgrade from a release without an index leaves it."""
    run_sql(app, "DELETE FROM message_terms")
    run_sql(
        app,
        "INSERT INTO search_backlog (user_id, upto_id, replaces) SELECT id, CAST(:id AS "
        f"{'uuid' if on_postgres(app) else 'text'}), {'true' if replaces else 'false'} FROM users",
        id=GREATEST_ID,
    )


def on_postgres(app: Flask) -> bool:
    with app.app_context():
        return is_postgres(db.engine)


def index(app: Flask, batches: int | None = None) -> int:
    """Index all, or so many batches; how many messages that were."""
    messages = 0
    with app.app_context():
        for number, count in enumerate(backlog.index_backlog(), 1):
            messages += count or 0
            if number == batches:
                break
    return messages


def words_in_tables(app: Flask) -> list[tuple[Any, ...]]:
    """The words of all messages; which ones are samples, and some numbers of rows, are decided at random."""
    return sorted(
        tuple(re.sub(r"'\w{6}~' ?", "", str(value)) for value in row)
        for row in run_sql(app, "SELECT user_id, message_id, terms FROM message_terms")
    )


def test_messages_of_before_are_indexed_and_found(own_app: Flask, user: Api) -> None:
    say(user, *(f"apple {number}" for number in range(25)))
    other = registered(own_app)
    say(other, "pear")
    registered(own_app)  # without messages
    before = words_in_tables(own_app)
    forget_words(own_app)
    assert found(user, "apple") == []
    assert index(own_app) == 26
    assert words_in_tables(own_app) == before
    assert found(other, "pear") == ["pear"]
    assert len(search(user, "apple", limit=100).get_json()) == 25


def test_an_answer_says_that_it_may_be_incomplete(own_app: Flask, user: Api) -> None:
    say(user, "apple")
    assert "Search-Index" not in search(user, "apple").headers
    forget_words(own_app)
    late = registered(own_app)  # whose messages are all indexed when they are stored
    assert search(user, "apple").headers["Search-Index"] == "incomplete"
    assert "Search-Index" not in search(late, "apple").headers
    index(own_app)
    assert "Search-Index" not in search(user, "apple").headers
    operation = user.get("/openapi.json").get_json()["paths"][PATH]["get"]
    assert "Search-Index" in operation["responses"]["200"]["headers"]


@pytest.mark.parametrize("replaces", [False, True])
def test_an_interrupted_indexing_goes_on_from_the_newest_to_the_oldest(
    own_app: Flask, user: Api, replaces: bool
) -> None:
    say(user, *(f"apple {number}" for number in range(25)))
    before = words_in_tables(own_app)
    forget_words(own_app, replaces=replaces)
    first = index(own_app, batches=1)
    assert 0 < first < 25
    assert search(user, "apple").headers["Search-Index"] == "incomplete"
    assert found(user, "apple")[0] == "apple 24"
    say(user, "a newer apple")  # is indexed by whoever stores it
    assert found(user, "newer") == ["a newer apple"]
    assert first + index(own_app) == 25
    assert [row for row in words_in_tables(own_app) if row in before] == before
    assert len(words_in_tables(own_app)) == 26
    assert run_sql(own_app, "SELECT * FROM search_backlog") == []


def test_words_that_are_there_are_replaced_by_a_rebuild_only(own_app: Flask, user: Api) -> None:
    say(user, "apple")
    words = "to_tsvector('simple', 'odd')" if on_postgres(own_app) else "' odd'"
    run_sql(own_app, "DELETE FROM message_terms")
    run_sql(
        own_app,
        "INSERT INTO message_terms (user_id, message_id, number, terms) "
        f"SELECT user_id, id, {'NULL' if on_postgres(own_app) else '1'}, {words} FROM messages",
    )
    run_sql(
        own_app,
        "INSERT INTO search_backlog (user_id, upto_id, replaces) SELECT user_id, id, false FROM messages",
    )
    assert index(own_app) == 0
    assert found(user, "apple") == []
    result = own_app.test_cli_runner().invoke(args=["search", "rebuild"])
    assert re.search(r"Indexed 1 messages\.", result.output)
    assert found(user, "apple") == ["apple"]


def test_an_interrupted_rebuild_goes_on(own_app: Flask, user: Api) -> None:
    say(user, *(f"apple {number}" for number in range(25)))
    with own_app.app_context():
        rebuild = maintenance.rebuild_search()
        first = next(rebuild) or 0
        rebuild.close()  # type: ignore[attr-defined]
    result = own_app.test_cli_runner().invoke(args=["search", "rebuild"])
    assert f"Indexed {25 - first} messages." in result.output
    assert 0 < first < 25


def test_one_process_indexes_at_a_time(own_app: Flask, user: Api) -> None:
    say(user, "apple")
    forget_words(own_app)
    with own_app.app_context():
        with try_fleet_lock("indexing") as is_held:
            assert is_held
            assert list(backlog.index_backlog()) == [None]
        assert sum(count or 0 for count in backlog.index_backlog()) == 1


def test_the_lock_of_a_block_that_failed_is_free_at_once(own_app: Flask) -> None:
    with own_app.app_context():
        for _ in range(50):
            with suppress(RuntimeError), try_fleet_lock("indexing") as is_held:
                assert is_held
                raise RuntimeError


def test_what_others_have_locked_is_not_waited_for(own_app: Flask, user: Api) -> None:
    if not on_postgres(own_app):
        pytest.skip("SQLite has no locks of rows")
    say(user, *(f"apple {number}" for number in range(5)))
    forget_words(own_app)
    with own_app.app_context(), db.engine.connect() as editor, db.engine.connect() as eraser:
        editor.execute(sa.text("UPDATE messages SET content = 'pear' WHERE content = 'apple 2'"))
        with db.engine.begin() as connection:
            assert backlog.index_next_batch(connection) == 2  # those that are newer
            assert backlog.index_next_batch(connection) == 0
        editor.commit()
        eraser.execute(sa.text("SELECT 1 FROM conversations FOR UPDATE"))
        with db.engine.begin() as connection:
            assert backlog.index_next_batch(connection) == 0
        eraser.rollback()
    assert index(own_app) == 3
    assert found(user, "pear") == ["pear"]
    assert found(user, "apple") == ["apple 4", "apple 3", "apple 1", "apple 0"]


def test_an_account_can_be_erased_before_it_is_indexed(own_app: Flask, user: Api) -> None:
    say(user, "apple")
    forget_words(own_app)
    assert user.delete("/auth/me").status_code == 204
    assert run_sql(own_app, "SELECT * FROM search_backlog") == []


@pytest.mark.slow
def test_the_service_indexes_while_it_runs_and_after_it_was_killed(
    url: str, own_app: Flask, user: Api, tmp_path: Path
) -> None:
    say(user, *(f"apple {number}" for number in range(500)))
    before = words_in_tables(own_app)
    forget_words(own_app)
    settings = SETTINGS | {"DATABASE_URL": url, "WEB_CONCURRENCY": "2", "DATA_DIR": str(tmp_path)}
    with GunicornServer(settings, migrate=False) as server:
        wait_until(lambda: run_sql(own_app, "SELECT 1 FROM message_terms LIMIT 1"))
        server.kill_group()
        left = 500 - len(words_in_tables(own_app))
        server.start()
        wait_until(lambda: not run_sql(own_app, "SELECT 1 FROM search_backlog"))
    if not left:
        pytest.skip("everything was indexed before the service could be killed")
    assert words_in_tables(own_app) == before
