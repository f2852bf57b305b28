"""A scripted provider, a conversation with it, and a second application on the same database."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.completions.chat import Chat
from tests.conftest import serving
from tests.support.api import Api
from tests.support.provider import ScriptedProvider

Serve = Callable[..., AbstractContextManager[Flask]]


@pytest.fixture
def eve(make_user: Callable[..., Api]) -> Api:
    """The user of most tests here; of each test another, as providers of a user are limited."""
    return make_user()


@pytest.fixture
def chat(eve: Api, provider: ScriptedProvider) -> Chat:
    """A conversation with the provider."""
    return Chat.begin(eve, provider)


@pytest.fixture(scope="session")
def serve(app: Flask, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Another application on the same database with the same secrets: another worker. Settings may differ."""
    folder: Path = tmp_path_factory.mktemp("other")
    secrets = {name: app.config[name] for name in ("JWT_SECRET_KEY", "ENCRYPTION_KEYS")}

    @contextmanager
    def another(**settings: Any) -> Iterator[Flask]:
        with serving(database_url, folder, **secrets, **settings) as application:
            yield application

    return another


@pytest.fixture(scope="session")
def other_app(serve: Serve) -> Iterator[Flask]:
    """Another worker."""
    with serve() as application:
        yield application


@pytest.fixture(scope="session")
def hasty_app(serve: Serve) -> Iterator[Flask]:
    """A worker that does not wait long for providers, and takes short replies only."""
    with serve(
        PROVIDER_CONNECT_TIMEOUT_S=1,
        PROVIDER_FIRST_BYTE_TIMEOUT_S=1,
        PROVIDER_IDLE_TIMEOUT_S=1,
        MAX_REPLY_BYTES=2000,
    ) as application:
        yield application
