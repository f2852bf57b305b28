"""The commands in the documentation work as they stand there: the README's quick start, and the API guide."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_api.llm.demo_provider import DemoProvider
from tests.support.server import REPOSITORY, GunicornServer

SCRIPT = REPOSITORY / "docs" / "walkthrough.sh"
GUIDE = REPOSITORY / "docs" / "api.md"
README = REPOSITORY / "README.md"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


def curl_commands(text: str) -> list[str]:
    """The commands with curl, each with the lines that continue it."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [" ".join(line.split()) for line in joined.splitlines() if "$BASE_URL" in line and "curl " in line]


def shell_blocks(page: Path) -> list[str]:
    """The blocks of shell commands on a page."""
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.nightly
@needs_curl
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


@needs_curl
def test_the_walk_fails_where_nobody_answers() -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "BASE_URL": "http://127.0.0.1:1",
        "PROVIDER_URL": "http://127.0.0.1:1",
    }
    assert (
        subprocess.run(["sh", str(SCRIPT)], env=environment, capture_output=True, timeout=100).returncode != 0
    )


def test_the_api_guide_shows_the_same_commands() -> None:
    assert curl_commands("\n".join(shell_blocks(GUIDE))) == curl_commands(
        SCRIPT.read_text().partition("# ---- The walk ----")[2]
    )


@pytest.fixture
def demo_provider() -> Iterator[DemoProvider]:
    """The model of `make demo-provider`, on a free port."""
    with DemoProvider("127.0.0.1", 0, words_per_second=100, report=lambda line: None) as provider:
        thread = threading.Thread(target=provider.serve_forever)
        thread.start()
        yield provider
        provider.shutdown()
        thread.join()


@needs_curl
def test_the_quick_start_ends_with_a_streamed_reply(
    three_workers: GunicornServer, demo_provider: DemoProvider
) -> None:
    starting, using, *_ = shell_blocks(README)
    assert [line.split("#")[0].strip() for line in starting.splitlines()] == [
        "make run",
        "make demo-provider",
    ]
    commands = using.replace("http://127.0.0.1:8000", three_workers.base_url)
    commands = commands.replace("http://127.0.0.1:8100/v1", demo_provider.base_url)
    assert "127.0.0.1:8" not in commands
    result = subprocess.run(
        ["sh", "-eu", "-c", commands], capture_output=True, text=True, timeout=60, cwd=REPOSITORY
    )
    assert result.returncode == 0, result.stderr
    events = re.findall(r"^event: (\S+)$", result.stdout, re.MULTILINE)
    assert events[0] == "completion.started"
    assert "completion.delta" in events
    assert events[-1] == "completion.completed", result.stdout
    assert len(starting.splitlines() + using.splitlines()) <= 12
    assert len(README.read_text().splitlines()) <= 200
