"""The Postgres of a test run ends with it, however that ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.client import wait_until
from tests.support.server import REPOSITORY

RUN = """
import time
from tests.support.postgres import _shared_cluster, create_database

create_database("any")
print(_shared_cluster().folder, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_ends_takes_its_cluster_along(end: signal.Signals) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_TESTRUNUID"}
    command = [sys.executable, "-c", RUN]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        folder = Path(run.stdout.readline().strip())
        assert (folder / "data" / "postmaster.pid").exists()
        run.send_signal(end)
    wait_until(lambda: not folder.exists(), what="the cluster is gone")
