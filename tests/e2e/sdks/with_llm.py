"""The command `llm`, which keeps the history of conversations itself."""

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from driving import WEATHER, drive, limit_of

TOOL = '''
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"{city}: 28 degrees"
'''
LLM = str(Path(sys.executable).parent / "llm")
folder = Path(tempfile.mkdtemp(prefix="chat-api-llm-"))


class Failed(Exception):
    """What the command says when it fails."""


def llm(order: SimpleNamespace, *arguments: str) -> str:
    """What the command prints. Raises Failed."""
    model = {
        "model_id": order.model,
        "model_name": order.model,
        "api_base": order.base_url,
        "api_key_name": "chat-api",
        "supports_schema": True,
        "supports_tools": True,
        "vision": True,
        "responses": order.api == "responses",
    }
    (folder / "extra-openai-models.yaml").write_text(json.dumps([model]))  # JSON is YAML
    streaming = [] if order.stream else ["--no-stream"]
    result = subprocess.run(
        [LLM, "-m", order.model, "--key", order.key, *streaming, *arguments],
        env={**os.environ, "LLM_USER_PATH": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    if result.returncode:
        raise Failed(result.stderr.decode())
    return result.stdout.decode().removesuffix("\n")


def ask(order: SimpleNamespace) -> str:
    options = [word for name, value in limit_of(order).items() for word in ("-o", name, str(value))]
    return llm(order, order.text, *options)


def talk(order: SimpleNamespace) -> list[str]:
    first, *others = order.texts
    return [llm(order, first), *(llm(order, "--continue", text) for text in others)]


def use_tools(order: SimpleNamespace) -> str:
    return llm(order, "--functions", TOOL, order.text)


def fill(order: SimpleNamespace) -> Any:
    return json.loads(llm(order, "--schema", json.dumps(WEATHER), order.text))


def look(order: SimpleNamespace) -> str:
    (folder / "image").write_bytes(base64.b64decode(order.image.partition(",")[2]))
    return llm(order, "--attachment", str(folder / "image"), order.text)


if __name__ == "__main__":
    drive(ask, talk, use_tools, fill, look)
