"""The systemd units: systemd reads them, and the service runs with what they forbid."""

import re
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

from config import Config
from tests.live.client import SETTINGS, Person
from tests.support.server import REPOSITORY, GunicornServer

UNITS = sorted((REPOSITORY / "deploy").glob("*.service"))
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
MAX_EXPOSURE = 2.0  # of 10, by systemd's own rating
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1  # what MemoryDenyWriteExecute= does on newer kernels


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on this machine")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)


def settings_of(unit: Path) -> dict[str, str]:
    parser = RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit)
    return dict(parser["Service"])


@each_unit
def test_systemd_understands_every_line(unit: Path) -> None:
    # without --man and with the programs of this machine: theirs are where the service is installed
    result = analyze("verify", "--man=no", "--recursive-errors=no", str(unit))
    complaints = [
        line for line in result.stderr.splitlines() if unit.name in line and "not executable" not in line
    ]
    assert complaints == []


@each_unit
def test_exposure_is_small(unit: Path) -> None:
    result = analyze("security", "--offline=true", "--no-pager", str(unit))
    if "Unknown" in result.stderr or "unrecognized" in result.stderr:
        pytest.skip("this systemd-analyze rates no files")
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", result.stdout)
    assert exposure, result.stdout + result.stderr
    assert float(exposure[1]) <= MAX_EXPOSURE


@each_unit
def test_resources_are_bounded_but_enough(unit: Path) -> None:
    settings = settings_of(unit)
    assert settings["MemoryMax"] == "2G"
    threads = Config.THREADS + 2 * Config.MAX_STREAMS + 32
    assert int(settings["TasksMax"]) >= (8 * threads if unit.name == "chat-api.service" else 8 * 32)
    assert "169.254.0.0/16" in settings["IPAddressDeny"].split()
    assert (settings["MemoryDenyWriteExecute"], settings["ProcSubset"]) == ("yes", "pid")


@pytest.mark.parametrize("worker_class", ["threads", "gevent"])
def test_service_runs_without_writable_code(
    worker_class: str, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if worker_class == "gevent" and database_url.startswith("sqlite"):
        pytest.skip("gevent needs Postgres")
    probe = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0) != 0)"
    if sys.platform != "linux" or subprocess.run([sys.executable, "-c", probe]).returncode:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    python = tmp_path / "python"
    code = (
        f"import ctypes, os, sys; ctypes.CDLL(None).prctl({PR_SET_MDWE}, {PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0)"
    )
    python.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "{code}; os.execv(sys.argv[1], sys.argv[1:])" {sys.executable} "$@"\n'
    )
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    settings = SETTINGS | {"DATABASE_URL": database_url, "WORKER_CLASS": worker_class, "WEB_CONCURRENCY": "1"}
    with GunicornServer(settings, migrate=False) as server:
        person = Person(server)
        assert person.say(person.conversation(), "Hello").status == 201
