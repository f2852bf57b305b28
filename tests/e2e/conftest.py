"""Fixtures: one llama.cpp server and one service for all tests."""

from collections.abc import Iterator

import pytest

from tests.e2e.llama import LlamaServer
from tests.live.client import serving
from tests.support.server import GunicornServer


@pytest.fixture(scope="session")
def llama() -> Iterator[LlamaServer]:
    """The provider."""
    with LlamaServer() as server:
        yield server


@pytest.fixture(scope="session")
def service() -> Iterator[GunicornServer]:
    """The service as a developer runs it: SQLite, and providers on this machine are allowed."""
    with serving() as server:
        yield server
