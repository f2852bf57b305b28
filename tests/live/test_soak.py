"""The endurance run in short; `make soak` is the long one."""

import pytest

from tests.live.soak import soak

pytestmark = pytest.mark.slow


def test_mixed_load_with_faults_loses_nothing_and_leaves_everything_where_it_was(backend: str) -> None:
    run = soak(backend, 20)
    assert run.problems == []
    assert run.faults["kill_worker"] > 0
    assert run.faults["reload"] > 0
    assert len(run.acknowledged) > 50
