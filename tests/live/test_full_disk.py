"""A full disk below DATA_DIR, TMPDIR and the log costs no response and no worker, on a real small file system."""

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.live.client import SETTINGS, Person, all_workers, assert_unavailable, at_once
from tests.live.uploads import send_file
from tests.support.server import GunicornServer

TOKEN = "the operator's token"
pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0777", "tmpfs", str(folder)]
    if os.geteuid() != 0:
        pytest.skip("Mounting a small file system needs root.")
    if (mounted := subprocess.run(command, capture_output=True, text=True)).returncode:
        pytest.skip(f"No small file system can be mounted here: {mounted.stderr.strip()}.")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no byte free."""
    with (folder / "ballast").open("wb", buffering=0) as file:
        for size in (65536, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    assert os.statvfs(folder).f_bavail == 0


def test_a_full_disk_costs_no_response_and_no_worker(database_url: str, small_disk: Path) -> None:
    settings = SETTINGS | {
        "DATABASE_URL": database_url,
        "DATA_DIR": str(small_disk / "data"),
        "TMPDIR": str(small_disk),
        "METRICS_TOKEN": TOKEN,
        "WEB_CONCURRENCY": "2",
    }
    server = GunicornServer(settings, migrate=False)
    server.log_path = small_disk / "log"
    with server:
        person = Person(server)
        conversation_id = person.conversation()
        workers = all_workers(server)
        fill(small_disk)
        answers = at_once(partial(person.say, conversation_id, f"Message {number}") for number in range(30))
        assert [answer.status for answer in answers] == [201] * 30
        assert len(person.messages(conversation_id)) == 30
        for path in ("/healthz", "/nowhere", f"/chat/conversations/{conversation_id}"):
            for _ in range(10):  # routes that are counted for the first time
                assert person.get(path).status in (200, 404)
        status, _, body = server.request("GET", "/metrics", token=TOKEN)
        assert status == 200
        assert b'chat_api_requests_total{method="POST",route="/chat/messages",status="201"} 30.0' in body
        assert all_workers(server) == workers


def test_an_upload_that_does_not_fit_leaves_nothing_and_others_go_on(
    database_url: str, small_disk: Path
) -> None:
    settings = SETTINGS | {"DATABASE_URL": database_url, "DATA_DIR": str(small_disk / "data")}
    with GunicornServer(settings, migrate=False) as server:
        person = Person(server)
        conversation_id = person.conversation()
        files = small_disk / "data" / "files"
        fitting = send_file(person, b"x" * 500_000)
        assert fitting.status == 201, fitting
        free = os.statvfs(small_disk).f_bavail
        for answer in at_once(
            [partial(send_file, person, bytes([number]) * 3_000_000) for number in range(4)]
        ):
            assert_unavailable(answer)
        assert list((files / "incoming").iterdir()) == []
        assert len(list(files.glob("*-*/*"))) == 1
        assert os.statvfs(small_disk).f_bavail == free
        assert person.say(conversation_id, "Hello").status == 201
        assert person.get(fitting.body["file_path"]).body == b"x" * 500_000
        assert send_file(person, b"y" * 500_000).status == 201
