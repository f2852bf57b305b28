"""Files are moved to another storage and back while the service runs, by a command that is killed again and again.

Two servers stand for a fleet that is restarted with the new settings one after the other.
"""

import hashlib
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.client import SETTINGS, Person, wait_until
from tests.live.uploads import send_file
from tests.support.s3 import BUCKET, S3Server
from tests.support.server import REPOSITORY, GunicornServer
from tests.support.tables import fresh_database

pytestmark = pytest.mark.nightly

FILES, KILLS = 30, 3
LOCAL, IN_BUCKET = "", f"s3://{BUCKET}/chat"


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


class Traffic:
    """Somebody who goes on uploading, downloading and deleting, at any of the servers."""

    def __init__(self, server: GunicornServer) -> None:
        self.servers = [server]
        self.person = Person(server)
        self.hashes: dict[str, str] = {}
        self.deleted: list[str] = []
        self.problems: list[str] = []
        self._chance = random.Random(5)
        self._stops = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def upload(self) -> None:
        content = self._chance.randbytes(self._chance.randint(1000, 200_000))
        self.person.server = self._chance.choice(self.servers)
        answer = send_file(self.person, content)
        if answer.status != 201:
            self.problems.append(f"upload: {answer}")
            return
        self.hashes[answer.body["id"]] = hashlib.sha256(content).hexdigest()

    def delete(self) -> None:
        attachment_id = self._chance.choice(list(self.hashes))
        del self.hashes[attachment_id]
        answer = self._ask("DELETE", f"/chat/attachments/{attachment_id}")
        if answer[0] != 204:
            self.problems.append(f"deletion: {answer}")
        self.deleted.append(attachment_id)

    def download(self, attachment_id: str) -> None:
        status, _, content = self._ask("GET", f"/chat/attachments/{attachment_id}/content")
        if status != 200 or hashlib.sha256(content).hexdigest() != self.hashes[attachment_id]:
            self.problems.append(f"download: {status} {content[:200]!r}")

    def download_all(self) -> None:
        for attachment_id in self.hashes:
            self.download(attachment_id)

    def _ask(self, method: str, path: str) -> tuple[int, object, bytes]:
        server = self._chance.choice(self.servers)
        return server.request(method, path, token=self.person.token)

    def _go_on(self) -> None:
        while not self._stops.is_set():
            self.upload()
            self.download(self._chance.choice(list(self.hashes)))
            self.delete()

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stops.set()
        self._thread.join()


def fleet(database_url: str, folder: Path, s3: S3Server, first: str, second: str) -> GunicornServer:
    settings = {
        "DATABASE_URL": database_url,
        "DATA_DIR": str(folder),
        "WEB_CONCURRENCY": "1",
        "ATTACHMENT_STORAGE": first,
        "ATTACHMENT_STORAGE_FALLBACK": second,
    }
    return GunicornServer(SETTINGS | settings | s3.environment, migrate=False)


def move(server: GunicornServer, *options: str, kill_after_s: float | None = None) -> str:
    """Run the command, and kill it after so long; what it printed at its end."""
    to = server.environment["ATTACHMENT_STORAGE"]
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "attachments", "move", "--to", to, *options]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, errors = process.communicate(timeout=kill_after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return ""
    assert process.returncode == 0, errors
    return out


def names_in(place: str, folder: Path, s3: S3Server) -> set[str]:
    if place == LOCAL:
        return {path.relative_to(folder / "files").as_posix() for path in (folder / "files").glob("*-*/*")}
    keys = s3.keys()
    return {key.removeprefix("chat/") for key in keys}


@pytest.fixture
def database_url(backend: str, tmp_path: Path) -> Iterator[str]:
    """The command moves the files of all users, and looks for them in the folder of this test."""
    with fresh_database(backend, tmp_path) as url:
        yield url


@pytest.mark.timeout(300)
def test_moves_to_a_bucket_and_back_under_traffic(database_url: str, tmp_path: Path, s3: S3Server) -> None:
    for source, target in ((LOCAL, IN_BUCKET), (IN_BUCKET, LOCAL)):
        # all know both storages before the first one uploads to the new one
        with (
            fleet(database_url, tmp_path, s3, source, target) as before,
            fleet(database_url, tmp_path, s3, target, source) as after,
        ):
            move_under_traffic(before, after)
            after.run_flask("purge")  # what the server would remove within seconds
            wait_until(lambda: not names_in(LOCAL, tmp_path, s3) | names_in(IN_BUCKET, tmp_path, s3))


def move_under_traffic(before: GunicornServer, after: GunicornServer) -> None:
    """Move all files, and delete them when they have arrived."""
    kills = random.Random(3)
    traffic = Traffic(before)
    for _ in range(FILES):
        traffic.upload()
    traffic.servers.append(after)
    with traffic:
        for _ in range(KILLS):
            move(after, kill_after_s=kills.uniform(1.5, 3.5))
        assert "lost 0, damaged 0" in move(after)
    before.terminate()
    traffic.servers.remove(before)
    move(after)  # what the server that has ended had uploaded behind the command's back
    assert "Copied 0 " in move(after)
    move(after, "--remove-old", kill_after_s=kills.uniform(1.5, 3.0))
    move(after, "--remove-old")
    traffic.download_all()
    assert traffic.problems == []
    assert len(traffic.deleted) > 5
    while traffic.hashes:
        traffic.delete()
    assert traffic.problems == []
