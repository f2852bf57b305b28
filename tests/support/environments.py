"""Environments of Python beside that of the tests, for packages that can't be installed together with the service's."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path


def python_with(lock: Path, name: str) -> Path:
    """Python with the packages of a lock file, installed once for each content of it, in the virtual environment."""
    target = Path(sys.prefix) / f"{name}-{sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (target / "installed").exists():
        uv = str(Path(sys.prefix) / "bin" / "uv")
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(target)],
            [uv, "pip", "install", "--quiet", "--python", str(target), "--require-hashes", "-r", str(lock)],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}")
        (target / "installed").touch()
    return target / "bin" / "python"
