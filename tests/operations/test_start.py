"""What a process imports: each module costs every start its time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chat_api.operations.schema import is_enough_for
from chat_api.operations.service import known_revisions
from tests.support.server import INHERITED, REPOSITORY


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= {"DATA_DIR": str(folder), "FLASK_SKIP_DOTENV": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_server_loads_nothing_that_only_commands_need(tmp_path: Path) -> None:
    script = "import sys, wsgi; print(*sorted({'alembic', 'mako', 'flask_migrate'} & set(sys.modules)))"
    assert run(tmp_path, "-c", script).stdout.split() == []


def test_an_upgrade_loads_no_views_and_makes_the_whole_schema(tmp_path: Path) -> None:
    upgraded = run(tmp_path, "-X", "importtime", "-m", "flask", "--app", "wsgi", "db", "upgrade")
    loaded = {line.rpartition("|")[2].strip() for line in upgraded.stderr.splitlines() if "|" in line}
    assert "chat_api.database.session" in loaded
    assert not loaded & {"chat_api.factory", "chat_api.messages", "flask_smorest"}
    assert known_revisions()[0] in run(tmp_path, "-m", "flask", "--app", "wsgi", "db", "current").stdout
    checked = run(tmp_path, "-m", "flask", "--app", "wsgi", "db", "check")  # with the models
    assert "No new upgrade operations detected" in checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("line", "is_enough"),
    [
        ("flask --app wsgi db upgrade", True),
        ("flask db current", True),
        ("flask --app wsgi db migrate", False),
        ("flask --app wsgi db check", False),
        ("flask --app wsgi users create", False),
        ("flask upgrade", False),
        ("flask", False),
    ],
)
def test_only_commands_that_compare_no_models_do_without_them(line: str, is_enough: bool) -> None:
    assert is_enough_for(line.split()) is is_enough
