"""Fixtures of the live tests: servers that several tests share."""

from collections.abc import Iterator

import pytest

from tests.live.client import SETTINGS
from tests.support.server import GunicornServer


@pytest.fixture(scope="session")
def three_workers(database_url: str) -> Iterator[GunicornServer]:
    """The service with three worker processes, on each kind of database."""
    settings = SETTINGS | {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "3", "THREADS": "8"}
    with GunicornServer(settings, migrate=False) as server:
        yield server
