"""Fixtures of tests that work on all rows of a database: it is their own, as those of other tests would take long."""

import pytest
from flask import Flask

from tests.conftest import user_maker
from tests.support.api import Api


@pytest.fixture
def ada(only_user: Api) -> Api:
    """The only user of the database."""
    return only_user


@pytest.fixture
def app(ada: Api) -> Flask:
    """The service on it."""
    return ada.app


@pytest.fixture
def bob(app: Flask) -> Api:
    """Another user of it."""
    return user_maker(app)()
