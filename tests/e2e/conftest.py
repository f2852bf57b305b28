"""Fixtures: one llama.cpp server, one service, one example page and one Chromium for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from playwright.sync_api import Browser, Page

from tests.e2e.account import Account
from tests.e2e.chromium import chromium
from tests.e2e.llama import LlamaServer
from tests.e2e.pages import Screenshots, Site, site
from tests.live.client import serving
from tests.support.provider import ScriptedProvider
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


@pytest.fixture(scope="module")
def gunicorn(backend: str, database_url: str) -> Iterator[GunicornServer]:
    """The service on each database."""
    with serving({} if backend == "sqlite" else {"DATABASE_URL": database_url}) as server:
        yield server


@pytest.fixture
def me(gunicorn: GunicornServer, provider: ScriptedProvider) -> Account:
    """A new user of it, whose provider says what it is told."""
    return Account(gunicorn, provider)


@pytest.fixture
def client(me: Account) -> Iterator[OpenAI]:
    """The user's client."""
    with OpenAI(base_url=me.base_url, api_key=me.key) as opened:
        yield opened


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def running() -> Iterator[Site]:
    """The example page, a service that allows its origin, and the demo model."""
    with site() as all_of_it:
        yield all_of_it


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab of a browser of its own; what the page complains about fails the test."""
    context = browser.new_context()
    context.set_default_timeout(20_000)
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
    yield tab
    context.close()
    assert complaints == []


@pytest.fixture
def screenshots(tmp_path: Path) -> Screenshots:
    return Screenshots(tmp_path)
