"""The endurance run in short; `make soak` is the long one."""

import logging

import pytest

from chat_api.errors import log
from chat_api.telemetry.logs import JsonFormatter
from tests.live.soak import soak, unexplained


def test_an_error_that_nobody_expected_is_found_in_the_log() -> None:
    def line(level: int) -> str:
        return JsonFormatter().format(
            log.makeRecord(log.name, level, "errors.py", 1, "unexpected error", (), None)
        )

    error, warning = line(logging.ERROR), line(logging.WARNING)
    traceback = "Traceback (most recent call last):"
    assert unexplained("\n".join([warning, error, traceback, "  File x", warning])) == [error, traceback]


@pytest.mark.nightly
def test_mixed_load_with_faults_loses_nothing_and_leaves_everything_where_it_was(backend: str) -> None:
    run = soak(backend, 20)
    assert run.problems == []
    assert run.faults["kill_worker"] > 0
    assert run.faults["reload"] > 0
    assert len(run.acknowledged) > 50
