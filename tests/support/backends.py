"""On which database a test runs, where it need not be both each time."""

import pytest

# For tests that take long and are about what comes before any database: bodies, sockets, memory.
on_postgres_first = pytest.mark.parametrize(
    "backend", ["postgres", pytest.param("sqlite", marks=pytest.mark.nightly)], indirect=True
)
