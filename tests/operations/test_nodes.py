"""What Postgres, and each node of a Citus cluster, has to keep; else the service says what to do, and does nothing."""

import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.session import db
from chat_api.database.statements import Statement
from chat_api.operations import service
from tests.conftest import migrate, serving
from tests.support.api import PASSWORD, Api, new_email
from tests.support.citus import citus_extension
from tests.support.postgres import PrivatePostgres
from tests.support.problems import assert_problem

SETTINGS = ("synchronous_commit", "lock_timeout", "statement_timeout")
BROKEN = {"synchronous_commit": "off", "lock_timeout": "0", "statement_timeout": "0"}
KEPT = {"synchronous_commit": "on", "lock_timeout": "5s", "statement_timeout": "15s"}
LEVELS = ("ROLE postgres", "DATABASE {}", "ROLE postgres IN DATABASE {}", "SYSTEM")
NODES = ("node_1", "node_2")
READ = {name: Statement(sa.select(sa.func.current_setting(name))) for name in SETTINGS}

PID = Statement(sa.select(sa.func.pg_backend_pid()))


@pytest.fixture(scope="module")
def cluster() -> Iterator[PrivatePostgres]:
    """A Postgres that is this module's, as some settings are those of the whole server. It keeps everything."""
    with PrivatePostgres() as postgres:
        run(postgres, *(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in KEPT.items()))
        yield postgres


def run(cluster: PrivatePostgres, *commands: str) -> None:
    with psycopg.connect(cluster.url.replace("+psycopg", ""), autocommit=True) as connection:
        for command in commands:
            connection.execute(command.encode())
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("SELECT pg_sleep(0.2)")  # the reload is a signal


@contextmanager
def changed(cluster: PrivatePostgres, level: str, settings: dict[str, str]) -> Iterator[None]:
    """Have settings on a level that new connections get."""
    run(cluster, *(f"ALTER {level} SET {name} = '{value}'" for name, value in settings.items()))
    try:
        yield
    finally:
        if level == "SYSTEM":
            run(cluster, *(f"ALTER SYSTEM SET {name} = '{KEPT[name]}'" for name in settings))
        else:
            run(cluster, *(f"ALTER {level} RESET {name}" for name in settings))


@pytest.fixture(scope="module")
def plain_url(cluster: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    run(cluster, "CREATE DATABASE plain")
    migrate(cluster.url_of("plain"), tmp_path_factory.mktemp("plain"))
    return cluster.url_of("plain")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", SETTINGS)
def test_on_one_server_the_services_connections_keep_it_whatever_the_default(
    cluster: PrivatePostgres, plain_url: str, tmp_path: Path, level: str, name: str
) -> None:
    with (
        changed(cluster, level.format("plain"), {name: BROKEN[name]}),
        serving(plain_url, tmp_path) as app,
        app.app_context(),
    ):
        assert Api(app).get("/readyz").status_code == 200
        assert READ[name].first() == (KEPT[name],)
        assert db.session.scalar(sa.select(sa.func.current_setting(name))) == KEPT[name]


def test_on_one_server_open_connections_keep_it_when_the_default_changes(
    cluster: PrivatePostgres, plain_url: str, tmp_path: Path
) -> None:
    with serving(plain_url, tmp_path, DATABASE_POOL_SIZE=1) as app, app.app_context():
        before = READ["synchronous_commit"].first(), PID.first()
        assert db.session.scalar(sa.select(sa.func.current_setting("synchronous_commit"))) == "on"
        db.session.rollback()
        with changed(cluster, "SYSTEM", BROKEN):
            assert (READ["synchronous_commit"].first(), PID.first()) == before
            for name in SETTINGS:
                assert db.session.scalar(sa.select(sa.func.current_setting(name))) == KEPT[name]


class Pooler:
    """Passes connections on to a server, without the options that they bring, as poolers do that are told to ignore
    these."""

    def __init__(self, socket_file: Path) -> None:
        self._server = str(socket_file)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
            server.sendall(self._without_options(client))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    @staticmethod
    def _without_options(client: socket.socket) -> bytes:
        """The startup packet (PostgreSQL documentation, section 54.7)."""
        size = int.from_bytes(client.recv(4, socket.MSG_WAITALL))
        packet = client.recv(size - 4, socket.MSG_WAITALL)
        names = packet[4:].split(b"\0")
        pairs = [
            pair for pair in zip(names[::2], names[1::2], strict=False) if pair[0] not in (b"", b"options")
        ]
        body = packet[:4] + b"".join(part + b"\0" for pair in pairs for part in pair) + b"\0"
        return (len(body) + 4).to_bytes(4) + body

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with source, target:
            try:
                while data := source.recv(65536):
                    target.sendall(data)
                target.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other direction has ended


def commands_of(problem: dict[str, Any]) -> list[str]:
    return re.findall(r"ALTER .*?;", problem["detail"])


def be_impatient(app: Flask) -> None:
    """Have the service look again, as after a second."""
    app.extensions.pop(service.NODES, None)


def test_a_pooler_that_drops_the_timeouts_is_found_out(
    cluster: PrivatePostgres, plain_url: str, tmp_path: Path
) -> None:
    pooler = Pooler(cluster.folder / ".s.PGSQL.5432")
    url = f"postgresql+psycopg://postgres@127.0.0.1:{pooler.port}/plain?sslmode=disable&gssencmode=disable"
    body = {"email": new_email(), "password": PASSWORD}
    with changed(cluster, "DATABASE plain", BROKEN), serving(url, tmp_path) as app:
        problem = assert_problem(Api(app).get("/readyz"), 503)
        assert commands_of(problem) == [
            f"ALTER ROLE postgres IN DATABASE plain SET {name} = '{KEPT[name]}';"
            for name in ("lock_timeout", "statement_timeout")
        ]
        refused = Api(app).post("/auth/register", body)
        assert "/readyz" in assert_problem(refused, 503)["detail"]
        assert refused.headers["Retry-After"] == "1"
        run(cluster, *commands_of(problem))
    with serving(url, tmp_path) as app:  # with new connections, which get it
        assert Api(app).get("/readyz").status_code == 200
        assert Api(app).post("/auth/register", body).status_code == 201
    pooler.close()
    run(cluster, "ALTER ROLE postgres IN DATABASE plain RESET ALL")


# -- with Citus ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def citus_url(cluster: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A coordinator and two nodes, which keep everything."""
    run(cluster, "CREATE DATABASE coordinator", *(f"CREATE DATABASE {node}" for node in NODES))
    url = cluster.url_of("coordinator")
    with citus_extension(url):
        migrate(url, tmp_path_factory.mktemp("citus"))
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            for number, node in enumerate(NODES, start=1):
                connection.execute(
                    "INSERT INTO pg_dist_node VALUES (%s, 'localhost', %s, %s)", (number, 5432 + number, node)
                )
        yield url


def readiness(app: Flask) -> dict[str, Any] | None:
    """None if it is ready, else the problem."""
    be_impatient(app)
    response = Api(app).get("/readyz")
    return None if response.status_code == 200 else assert_problem(response, 503)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_node_that_does_not_keep_it_is_found_with_what_mends_it(
    cluster: PrivatePostgres,
    citus_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    level: str,
    name: str,
) -> None:
    with serving(citus_url, tmp_path) as app:
        assert readiness(app) is None
        with changed(cluster, level.format("node_2"), {name: BROKEN[name]}):
            problem = readiness(app)
            assert problem is not None
            command = f"ALTER ROLE postgres IN DATABASE coordinator SET {name} = '{KEPT[name]}';"
            assert commands_of(problem) == [command]
            nodes = (
                {"node_2": "localhost:5434"}
                if "{}" in level
                else {"node_1": "localhost:5433", "node_2": "localhost:5434"}
            )
            for node, address in nodes.items():
                assert f"{address} does not keep {name}" in caplog.text
                run(cluster, command.replace("coordinator", node))
            assert readiness(app) is None
        run(cluster, *(f"ALTER ROLE postgres IN DATABASE {node} RESET ALL" for node in NODES))


def test_shorter_timeouts_and_stronger_commits_are_kept_promises(
    cluster: PrivatePostgres, citus_url: str, tmp_path: Path
) -> None:
    stronger = {"synchronous_commit": "remote_apply", "lock_timeout": "1500ms", "statement_timeout": "5s"}
    with changed(cluster, "DATABASE node_1", stronger), serving(citus_url, tmp_path) as app:
        assert readiness(app) is None


def test_requests_wait_for_the_nodes_to_be_right(
    cluster: PrivatePostgres, citus_url: str, tmp_path: Path
) -> None:
    body = {"email": new_email(), "password": PASSWORD}
    with serving(citus_url, tmp_path) as app:
        with changed(cluster, "DATABASE node_1", {"synchronous_commit": "off"}):
            assert_problem(Api(app).post("/auth/register", body), 503)
        be_impatient(app)
        assert Api(app).post("/auth/register", body).status_code == 201
        with changed(cluster, "DATABASE node_1", {"synchronous_commit": "off"}):
            assert readiness(app) is not None  # found also while it serves, by whoever looks


def test_a_node_that_is_down_stops_nobody(
    citus_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with psycopg.connect(citus_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("INSERT INTO pg_dist_node VALUES (3, 'localhost', 5435, 'gone')")
        try:
            with serving(citus_url, tmp_path) as app:
                assert readiness(app) is None
        finally:
            connection.execute("DELETE FROM pg_dist_node WHERE nodeid = 3")
    assert "the settings of localhost:5435 are not known" in caplog.text


def test_a_service_on_a_worker_node_says_that_it_belongs_to_the_coordinator(
    cluster: PrivatePostgres, citus_url: str, tmp_path: Path
) -> None:
    with (
        changed(cluster, "DATABASE coordinator", {"citus.is_worker": "yes"}),
        serving(citus_url, tmp_path) as app,
    ):
        problem = readiness(app)
        assert problem is not None
        assert "worker node of a Citus cluster" in problem["detail"]
        assert_problem(Api(app).post("/auth/register", {"email": new_email(), "password": PASSWORD}), 503)
