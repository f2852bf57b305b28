"""Programs for OpenAI's API, each in a process of its own: the drivers in sdks/, in environments of their own.

Their packages can't all be installed beside the service's: each wants versions of its own of what they share.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.account import Account
from tests.e2e.node import installed, node_command
from tests.support.environments import python_with

SOURCES = Path(__file__).parent / "sdks"
CHAT, RESPONSES = "chat", "responses"


@dataclass(frozen=True, eq=False)
class Program:
    """A client and what it can do. `raises`: status -> the exception that its users get.

    `unstored`: the APIs with which it says that nothing is to be stored.
    """

    name: str
    script: str
    raises: dict[int, str]
    apis: tuple[str, ...] = (CHAT,)
    streams: tuple[bool, ...] = (False, True)
    unstored: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def command(self) -> list[str]:
        """How its driver is started; installs what it needs, once for each lock file."""
        if self.script.endswith(".mjs"):
            return [*node_command(), str(installed(SOURCES) / self.script)]
        return [python(), str(SOURCES / self.script)]


def python() -> str:
    """Python with the clients that are packages of it."""
    return str(python_with(SOURCES / "requirements.txt", "e2e-sdks-python"))


class Driver:
    """A client at work."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def order(self, do: str, me: Account, *, api: str, stream: bool, **order: Any) -> dict[str, Any]:
        """What came of an order: {"got": …} or {"raised": […], "status": …, "code": …, "message": …}."""
        service = {"base_url": me.base_url, "key": me.key, "model": me.name}
        whole = {"do": do, **service, "api": api, "stream": stream, "limit": None, **order}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(whole)}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "The driver has ended; what it complained about is above."
        answer: dict[str, Any] = json.loads(line)
        return answer

    def get(self, do: str, me: Account, **order: Any) -> Any:
        """What came of an order that must succeed."""
        answer = self.order(do, me, **order)
        assert "got" in answer, answer
        return answer["got"]


@contextmanager
def driving(program: Program) -> Iterator[Driver]:
    """Start the driver of a client; it ends with the block."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "LITELLM_"))},
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches a list of prices
        **program.environment,
    }
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(program.command(), env=environment, **pipes) as process:
        try:
            yield Driver(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
