"""What all tests share: the service on SQLite and on a real Postgres, and users of it.

No test empties tables: every user's data are their own, so a fresh user is a fresh database.
"""

import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request, request_finished
from flask_migrate import upgrade
from sqlalchemy import QueuePool

from chat_api import create_app
from chat_api.auth import service as auth
from chat_api.auth.passwords import hash_password
from chat_api.completions import registry
from chat_api.database.extension import add_migrations
from chat_api.database.session import db
from chat_api.database.statements import close_idle_connections
from chat_api.operations import commands
from chat_api.transfer.slots import transfer_slots
from chat_api.users import service as users
from config import Config
from tests.support.api import PASSWORD, Api, new_email
from tests.support.bodies import body_for, own_ids, user  # noqa: F401 (fixtures)
from tests.support.memory_folder import memory_folder
from tests.support.postgres import create_database, drop_database, ensure_template
from tests.support.provider import ScriptedProvider
from tests.support.routing import advice, unmeant
from tests.support.statements_sent import Sent, recorded

BACKENDS = ("sqlite", "postgres")
os.environ["FLASK_SKIP_DOTENV"] = "1"  # the developer's own settings are not the tests'
TEMPLATE = "chat_api_migrated"
ROOM_IN_MEMORY = 6 * 1024**3  # of the nightly tests, twenty uploads of 100 MB at a time

# tests log in more often than a person, and share users with many providers; the limits have tests of their own
GENEROUS = {
    "MAX_PROVIDERS_PER_USER": 100_000,
    "MAX_CONFIGS_PER_USER": 100_000,
    "LOGIN_LIMIT_PER_ADDRESS": "1000000 per hour",
    "REGISTER_LIMIT_PER_ADDRESS": "1000000 per hour",
    "LOG_LEVEL": "WARNING",
}


def pytest_configure(config: pytest.Config) -> None:
    """Keep what tests write in memory, if it has room: SQLite waits for the disk at each commit, some 4 ms."""
    if folder := memory_folder(ROOM_IN_MEMORY):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))
        tempfile.tempdir = str(folder)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes more than there are cores: many tests wait for servers, leases and timeouts."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of each database's tests the slow ones first: else one process is busy with them when all others have ended."""

    def order(item: pytest.Item) -> tuple[str, bool]:
        parameters = getattr(item, "callspec", None)
        database = parameters.params.get("backend", "") if parameters else ""
        return database, item.get_closest_marker("slow") is None

    items.sort(key=order)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test marked as the happy path of an operation that did not succeed in it."""
    claimed = {name for marker in item.iter_markers("happy_path") for name in marker.args}
    if not claimed:
        return (yield)
    assert "backend" in getattr(item, "fixturenames", ()), "Use a fixture that runs on both databases."
    succeeded = set()

    def note(_: Flask, response: Response, **extra: object) -> None:
        if response.status_code < 300 and request.endpoint:
            succeeded.add(request.endpoint.rpartition(".")[2])

    with request_finished.connected_to(note):
        outcome = yield
    assert claimed <= succeeded, f"No request to {sorted(claimed - succeeded)} succeeded in this test."
    return outcome


@pytest.fixture(autouse=True, scope="session")
def everything_sent() -> Iterator[list[Sent]]:
    """The SQL that requests and replies have sent to Postgres in this process since somebody looked."""
    with recorded() as sent:
        yield sent


@pytest.fixture(autouse=True)
def requests_go_to_one_node(everything_sent: list[Sent]) -> Iterator[None]:
    """Fail a test in which a request sent what Citus would not send to one node only."""
    yield
    count = len(everything_sent)  # replies may go on
    found = unmeant(set(everything_sent[:count]))
    del everything_sent[:count]
    assert not found, "; ".join(f"{sender}: {advice([obstacle])}" for sender, obstacle in sorted(found))


@contextmanager
def serving(url: str, folder: Path, **settings: Any) -> Iterator[Flask]:
    """The application on a database, with settings of the test's own; its connections are closed at the end."""
    config = Config.from_environment(DATABASE_URL=url, DATA_DIR=str(folder), **{**GENEROUS, **settings})
    app = create_app(config)
    commands.init_app(app)
    add_migrations(app)
    try:
        yield app
    finally:
        app.extensions[registry.EXTENSION].finish_shutdown()
        with app.app_context():
            close_idle_connections()
            wait_for_connections()
            db.engine.dispose()


def wait_for_connections() -> None:
    """Wait, some seconds at most, until no thread uses the engine: what it gives back later would stay open."""
    pool, deadline = db.engine.pool, time.monotonic() + 5
    while isinstance(pool, QueuePool) and pool.checkedout() and time.monotonic() < deadline:
        time.sleep(0.01)


def migrate(url: str, folder: Path) -> None:
    """Bring a database to the current schema, leaving no connection open."""
    kind, _, path = url.partition(":///")
    if kind != "sqlite" or Path(path).exists():
        run_migrations(url, folder)
        return
    Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    Path(path).write_bytes(migrated_sqlite())


@cache
def migrated_sqlite() -> bytes:
    """The file of a migrated database without rows: hundreds of tests want one, and each would take 0.15 s."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "chat.db")
        run_migrations(f"sqlite:///{path}", Path(folder))
        assert not path.with_name("chat.db-wal").exists(), "A part of it is elsewhere."
        return path.read_bytes()


def run_migrations(url: str, folder: Path) -> None:
    """Upgrade a database, leaving no connection open."""
    with serving(url, folder) as app, app.app_context():
        upgrade(directory=str(Path(app.root_path).parent / "migrations"))


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database: every test that needs one runs on both."""
    return request.param


@contextmanager
def shared_database(backend: str, folder: Path, name: str) -> Iterator[str]:
    """A migrated database that tests of this process share."""
    if backend == "sqlite":
        url = f"sqlite:///{folder / 'chat.db'}"
        migrate(url, folder)
        yield url
        return
    name = f"{name}_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    yield create_database(name, ensure_template(TEMPLATE, lambda url: migrate(url, folder)))
    drop_database(name)


@pytest.fixture(scope="session")
def database_url(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The database of this process's tests."""
    with shared_database(backend, tmp_path_factory.mktemp("database"), "tests") as url:
        yield url


@pytest.fixture(scope="session")
def app(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The application. No context is pushed: a forgotten commit must be seen."""
    with serving(database_url, tmp_path_factory.mktemp("data")) as application:
        yield application


@pytest.fixture(scope="session")
def provider() -> Iterator[ScriptedProvider]:
    """An LLM provider that replies. Whoever scripts it does so for a model of their own."""
    with ScriptedProvider() as scripted:
        yield scripted


@pytest.fixture
def stranger(app: Flask) -> Api:
    """Somebody without a token."""
    return Api(app)


def user_maker(app: Flask) -> Callable[..., Api]:
    """Make a user of a role, logged in."""

    def make(role: str = "user", email: str | None = None) -> Api:
        with app.app_context():
            user = users.create_user(email=email or new_email(), password_hash=hash_of_password(), role=role)
            pair = auth.begin_login(user=user)
            db.session.commit()
        api = Api(app, pair.access_token, refresh_token=pair.refresh_token)
        api.user = api.get("/auth/me").get_json()
        return api

    return make


@pytest.fixture(scope="session")
def make_user(app: Flask) -> Callable[..., Api]:
    """Make a user of a role, logged in."""
    return user_maker(app)


@cache
def hash_of_password() -> str:
    """Hashed once: 60 ms for each user of each test would be a quarter of the suite's time."""
    return hash_password(PASSWORD)


@pytest.fixture(autouse=True)
def no_export_stays_open() -> Iterator[None]:
    """A response that is not closed keeps its slot, and the tests after it in this process get none."""
    before = transfer_slots.taken
    yield
    assert transfer_slots.taken <= before, "Close the response of the export, or have it buffered."


@pytest.fixture
def ada(make_user: Callable[..., Api]) -> Api:
    """A user."""
    return make_user()


@pytest.fixture
def bob(make_user: Callable[..., Api]) -> Api:
    """Another user."""
    return make_user()


@pytest.fixture
def admin(make_user: Callable[..., Api]) -> Api:
    """An admin."""
    return make_user("admin")


@pytest.fixture
def only_user(backend: str, tmp_path: Path) -> Iterator[Api]:
    """The only user of a database of the test's own.

    For plans, which follow from the rows of all users, and for commands that work on all users.
    """
    from tests.support.tables import fresh_database

    with fresh_database(backend, tmp_path) as url, serving(url, tmp_path / "data") as application:
        user = Api(application).made("/auth/register", {"email": new_email(), "password": PASSWORD})
        yield Api(application, user=user).log_in()


@pytest.fixture
def trusted(make_user: Callable[..., Api]) -> Api:
    """A service account: a trusted back end that acts for its users."""
    return make_user("service")
