"""Fixtures of the live tests: servers and people that several tests share."""

from collections.abc import Iterator

import pytest
from flask import Flask

from tests.conftest import serving, shared_database
from tests.live.client import SETTINGS, Person
from tests.support.server import GunicornServer


@pytest.fixture(scope="session")
def database_url(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of their own: the threads of a server work on all rows, also on those of tests without a server."""
    with shared_database(backend, tmp_path_factory.mktemp("database"), "live") as url:
        yield url


@pytest.fixture(scope="session")
def app(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The application on that database."""
    with serving(database_url, tmp_path_factory.mktemp("data")) as application:
        yield application


@pytest.fixture(scope="session")
def three_workers(database_url: str) -> Iterator[GunicornServer]:
    """The service with three worker processes, on each kind of database."""
    settings = SETTINGS | {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "3", "THREADS": "8"}
    with GunicornServer(settings, migrate=False) as server:
        yield server


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[GunicornServer]:
    """A module's own server with two workers, as on a machine with two cores; some modules have another one."""
    settings = SETTINGS | {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "2", "THREADS": "8"}
    with GunicornServer(settings, migrate=False) as running:
        yield running


@pytest.fixture(scope="module")
def innocent(server: GunicornServer) -> Person:
    """Somebody who only wants to use the module's server."""
    return Person(server)


@pytest.fixture
def attacker(server: GunicornServer) -> Person:
    """A user of the test's own who means harm."""
    return Person(server)
