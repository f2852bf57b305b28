"""gunicorn.conf.py hands our settings to the worker."""

import runpy
from pathlib import Path

import pytest

from chat_api.attachments.slots import MAX_DOWNLOADS, MAX_UPLOADS
from chat_api.auth.passwords import MAX_WAITING as MAX_HASHING
from chat_api.completions.preparing import MAX_PREPARING
from config import Config

CONF = Path(__file__).resolve().parents[2] / "gunicorn.conf.py"


def test_threads_bound_the_requests_that_run_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """More threads than that are for requests that only wait, such as streams."""
    for name, value in {"DATA_DIR": str(tmp_path), "THREADS": "3", "MAX_STREAMS": "20"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FLASK_SKIP_DOTENV", "1")
    settings = runpy.run_path(str(CONF))
    assert settings["worker_class"].running_requests == 3
    assert settings["worker_class"].running_requests_per_user == 2
    assert settings["threads"] == 3 + 20 + MAX_UPLOADS + MAX_DOWNLOADS + MAX_PREPARING + MAX_HASHING


@pytest.mark.parametrize(("threads", "connections", "share"), [(8, 8, 6), (16, 4, 3), (3, 8, 2), (1, 1, 1)])
def test_others_have_a_quarter_of_the_requests_and_connections(
    threads: int, connections: int, share: int
) -> None:
    assert Config(THREADS=threads, DATABASE_POOL_SIZE=connections).requests_per_user == share


def test_with_gevent_only_connections_count() -> None:
    assert Config(WORKER_CLASS="gevent", THREADS=2, DATABASE_POOL_SIZE=20).requests_per_user == 15
