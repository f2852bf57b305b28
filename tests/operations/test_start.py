"""What a process imports: each module costs every start its time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chat_api.operations.schema import is_enough_for
from chat_api.operations.service import known_revisions
from tests.support.server import INHERITED, REPOSITORY


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= {"DATA_DIR": str(folder), "FLASK_SKIP_DOTENV": "1", **settings}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )


# what only commands need, and what a worker loads when it is first asked for it
NOT_AT_A_START = {
    "alembic",
    "boto3",
    "chat_api.operations.backup",
    "chat_api.operations.commands",
    "chat_api.operations.doctor",
    "chat_api.transfer.schemas",
    "chat_api.transfer.service",
    "flask_migrate",
    "mako",
    "multiprocessing",
    "multipart",
    "PIL",
    "prometheus_client",
    "pypdf",
    "unittest",
    "urllib3",
    "xml.etree",
    "zxcvbn",
}


def test_a_server_loads_nothing_that_it_may_never_need(tmp_path: Path) -> None:
    loaded = run(tmp_path, "-c", "import sys, wsgi; print(*sys.modules)").stdout.split()
    assert "chat_api.messages.routes" in loaded
    assert NOT_AT_A_START & set(loaded) == set()


def test_sqlite_does_without_the_driver_of_postgres(tmp_path: Path) -> None:
    script = (
        "import runpy, sys; runpy.run_path('gunicorn.conf.py'); import wsgi; print('psycopg' in sys.modules)"
    )
    assert run(tmp_path, "-c", script).stdout.strip() == "False"


def test_the_master_of_a_server_on_postgres_loads_its_driver_for_all_workers(tmp_path: Path) -> None:
    script = "import runpy, sys; runpy.run_path('gunicorn.conf.py'); print('psycopg' in sys.modules)"
    url = "postgresql://nobody@127.0.0.1:1/none"
    assert run(tmp_path, "-c", script, DATABASE_URL=url).stdout.strip() == "True"


def test_the_master_of_a_server_with_metrics_loads_their_format_for_its_workers(tmp_path: Path) -> None:
    script = (
        "import runpy, sys; runpy.run_path('gunicorn.conf.py'); print('prometheus_client' in sys.modules)"
    )
    assert run(tmp_path, "-c", script).stdout.strip() == "False"
    assert run(tmp_path, "-c", script, METRICS_TOKEN="m" * 32).stdout.strip() == "True"


def test_installing_compiles_all_that_a_start_loads() -> None:
    """The service may not write there: see `ProtectSystem` of the systemd unit."""
    steps = subprocess.run(
        ["make", "--dry-run", "install"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    compiled = steps.partition("-m compileall -q ")[2].split()
    assert {"chat_api", "migrations", "config.py", "wsgi.py", "gunicorn.conf.py"} <= set(compiled)


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
