"""The walk through the API that the documentation shows works as it stands there."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.support.server import REPOSITORY, GunicornServer

SCRIPT = REPOSITORY / "docs" / "walkthrough.sh"
README = REPOSITORY / "README.md"


def curl_commands(text: str) -> list[str]:
    """The commands with curl, each with the lines that continue it."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [" ".join(line.split()) for line in joined.splitlines() if "$BASE_URL" in line and "curl " in line]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_walk_goes_through_and_prints_each_answer(three_workers: GunicornServer) -> None:
    result = subprocess.run(
        ["sh", str(SCRIPT)],
        env={
            "PATH": os.environ["PATH"],
            "BASE_URL": three_workers.base_url,
            "FLASK": f"{sys.executable} -m flask",
        },
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    commands = curl_commands(SCRIPT.read_text().partition("# ---- The walk ----")[2])
    assert len(commands) >= 10
    answers = re.findall(r"^<- (\d+)$", result.stdout, re.MULTILINE)
    assert len(answers) == len(commands)
    assert "500" not in answers


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_walk_fails_where_nobody_answers() -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "BASE_URL": "http://127.0.0.1:1",
        "PROVIDER_URL": "http://127.0.0.1:1",
    }
    assert (
        subprocess.run(["sh", str(SCRIPT)], env=environment, capture_output=True, timeout=100).returncode != 0
    )


def test_the_readme_shows_the_same_commands() -> None:
    shown = curl_commands(
        "\n".join(re.findall(r"^```sh\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL))
    )
    walked = curl_commands(SCRIPT.read_text().partition("# ---- The walk ----")[2])
    assert [command for command in walked if command not in shown] == []
    assert [command for command in shown if command in walked] == walked
