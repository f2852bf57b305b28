"""The storage in a bucket, against a real server."""

import io
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from chat_api.storage import NotStored, Storage
from chat_api.storage.s3 import PART_BYTES, S3Failed, S3Storage
from tests.support.s3 import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server

ID = "0190d0a0-0000-7000-8000-000000000001"
LARGE = 3 * PART_BYTES + 5


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def storage(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    return open_at(s3.endpoint_url, tmp_path, monkeypatch)


def open_at(endpoint_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    for name, value in (("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)):
        monkeypatch.setenv(name, value)
    return S3Storage(bucket=BUCKET, prefix=f"below/{uuid4()}", endpoint_url=endpoint_url, data_dir=folder)


def new_name() -> str:
    return f"{uuid4()}/{uuid4()}"


def put(storage: Storage, data: bytes, name: str = "") -> str:
    name = name or new_name()
    with storage.new_file() as incoming:
        incoming.file.write(data)
        storage.put(name, incoming)
    return name


def read(storage: Storage, name: str, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join(storage.open(name, start, stop))


@pytest.mark.parametrize("size", [0, 1, 1000, PART_BYTES, LARGE])
def test_what_was_put_is_read(storage: S3Storage, size: int) -> None:
    data = os.urandom(size)
    name = put(storage, data)
    assert storage.size_of(name) == size
    assert read(storage, name) == data


def test_parts_of_a_file_are_read(storage: S3Storage) -> None:
    name = put(storage, bytes(range(100)))
    assert read(storage, name, 10, 20) == bytes(range(10, 20))
    assert read(storage, name, 90) == bytes(range(90, 100))
    assert read(storage, name, 0, 1) == b"\0"
    assert read(storage, name, 50, 5000) == bytes(range(50, 100))
    assert read(storage, name, 100) == read(storage, name, 7, 7) == b""


def test_missing_file_is_not_stored(storage: S3Storage) -> None:
    name = new_name()
    for start, stop in ((0, None), (5, 10), (3, 3)):
        with pytest.raises(NotStored):
            storage.open(name, start, stop)
    assert storage.size_of(name) is None
    storage.delete(name)


def test_deleted_file_is_gone(storage: S3Storage) -> None:
    name, other = put(storage, b"one"), put(storage, b"two")
    storage.delete(name)
    assert storage.size_of(name) is None
    assert [each.name for each in storage.names()] == [other]


def test_files_are_listed_with_size_and_time(storage: S3Storage, s3: S3Server) -> None:
    names = {put(storage, b"x" * size): size for size in range(3)}
    s3.client.put_object(Bucket=BUCKET, Key=f"{storage._prefix}somebody/else's", Body=b"")
    found = {each.name: each for each in storage.names()}
    assert {name: each.size_bytes for name, each in found.items()} == names
    assert all(abs(each.modified_at - datetime.now(UTC)) < timedelta(minutes=1) for each in found.values())


@pytest.mark.parametrize("name", ["", "..", "a/../b", f"{ID}/../{ID}", ID, f"{ID}/{ID}/", "/etc/passwd"])
def test_only_names_of_ours_reach_the_bucket(storage: S3Storage, name: str) -> None:
    for action in (storage.open, storage.delete, storage.size_of):
        with pytest.raises(ValueError, match="Not the name"):
            action(name)


class Interrupted(BaseException):
    """As a worker that is told to end."""


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), Interrupted()], ids=["disk", "interrupt"])
def test_upload_that_fails_leaves_nothing(storage: S3Storage, s3: S3Server, error: BaseException) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 2 * PART_BYTES:
                raise error
            return super().read(size)

    class Received:
        file = Failing(bytes(LARGE))

    with pytest.raises(type(error)):
        storage.put(new_name(), Received())
    assert list(storage.names()) == []
    assert s3.incomplete_uploads(storage._prefix) == []


def test_upload_whose_process_died_is_swept(
    storage: S3Storage, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, foreign = storage._key(new_name()), f"elsewhere/{uuid4()}"
    uploads = {key: s3.client.create_multipart_upload(Bucket=BUCKET, Key=key) for key in (own, foreign)}
    part = {"UploadId": uploads[own]["UploadId"], "PartNumber": 1, "Body": b"part"}
    s3.client.upload_part(Bucket=BUCKET, Key=own, **part)
    assert storage.remove_leftovers() == 0  # it may be in progress
    assert s3.incomplete_uploads(own) == [own]
    monkeypatch.setattr("chat_api.storage.s3.LEFTOVER_AFTER", timedelta(seconds=-60))
    assert storage.remove_leftovers() == 1
    assert storage.remove_leftovers() == 0
    assert s3.incomplete_uploads(own) == []
    assert s3.incomplete_uploads(foreign) == [foreign]
    s3.client.abort_multipart_upload(Bucket=BUCKET, Key=foreign, UploadId=uploads[foreign]["UploadId"])


def test_several_threads_share_a_storage(storage: S3Storage) -> None:
    files = {put(storage, data): data for data in (os.urandom(300_000) for _ in range(8))}
    with ThreadPoolExecutor(8) as pool:
        results = dict(zip(files, pool.map(lambda name: read(storage, name), files), strict=True))
    assert results == files


def test_large_files_take_no_memory(storage: S3Storage) -> None:
    """Neither on the way to the bucket nor back."""
    name = put(storage, b"warm up" * 1000)
    read(storage, name)
    process = psutil.Process()
    with storage.new_file() as incoming:
        for _ in range(96):
            incoming.file.write(os.urandom(1024 * 1024))
        before = process.memory_info().rss
        highest = before

        def watch() -> None:
            nonlocal highest
            while not is_done.wait(0.005):
                highest = max(highest, process.memory_info().rss)

        is_done = threading.Event()
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            storage.put(name, incoming)
            size = sum(len(chunk) for chunk in storage.open(name))
        finally:
            is_done.set()
            watcher.join()
    assert size == 96 * 1024 * 1024
    assert highest - before < 24 * 1024 * 1024


class CuttingProxy:
    """Forwards connections to a server, and cuts the first `cuts` of them after so many bytes of the answer."""

    def __init__(self, url: str, cuts: int, after_bytes: int) -> None:
        self._target = int(url.rpartition(":")[2])
        self._cuts, self._after_bytes = cuts, after_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                left = self._after_bytes if self._cuts > 0 else 2**60
                self._cuts -= 1
                threading.Thread(target=self._forward, args=(client, left), daemon=True).start()

    def _forward(self, client: socket.socket, left: int) -> None:
        server = socket.create_connection(("127.0.0.1", self._target))
        with client, server, suppress(OSError):
            while left > 0:
                readable, _, _ = select.select([client, server], [], [])
                for source in readable:
                    data = source.recv(min(65536, left))
                    if not data:
                        return
                    (client if source is server else server).sendall(data)
                    if source is server:
                        left -= len(data)


@pytest.fixture
def cutting(s3: S3Server) -> Iterator[Callable[[int, int], str]]:
    proxies: list[CuttingProxy] = []

    def cut(times: int, after_bytes: int) -> str:
        proxies.append(CuttingProxy(s3.endpoint_url, times, after_bytes))
        return proxies[-1].url

    yield cut
    for proxy in proxies:
        proxy.close()


def test_download_goes_on_where_the_connection_broke(
    s3: S3Server, cutting: Callable[[int, int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that pauses for long outlasts the connection to the bucket."""
    data = os.urandom(5_000_000)
    direct = open_at(s3.endpoint_url, tmp_path, monkeypatch)
    name = put(direct, data)
    through = open_at(cutting(3, 1_000_000), tmp_path, monkeypatch)
    through._prefix = direct._prefix
    assert read(through, name, 100) == data[100:]


def test_download_ends_with_an_error_where_the_bucket_stays_away(
    s3: S3Server, cutting: Callable[[int, int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = open_at(s3.endpoint_url, tmp_path, monkeypatch)
    name = put(direct, os.urandom(5_000_000))
    through = open_at(cutting(1000, 400), tmp_path, monkeypatch)
    through._prefix = direct._prefix
    with pytest.raises(OSError, match=r"^The bucket can't be used"):
        read(through, name)


def test_upload_is_repeated_where_the_connection_broke(
    s3: S3Server, cutting: Callable[[int, int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(LARGE)
    through = open_at(cutting(2, 1), tmp_path, monkeypatch)
    assert read(through, put(through, data)) == data


def test_bucket_that_is_away_is_an_error_of_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_at("http://127.0.0.1:9", tmp_path, monkeypatch)
    for action in (storage.size_of, storage.delete, storage.open):
        with pytest.raises(S3Failed, match="EndpointConnectionError"):
            action(new_name())
    with pytest.raises(S3Failed):
        put(storage, b"data")
    with pytest.raises(S3Failed):
        list(storage.names())


def test_refused_key_is_an_error_that_names_no_secret(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_at(s3.endpoint_url, tmp_path, monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(S3Failed) as refused:
        put(storage, b"data")
    assert "SignatureDoesNotMatch" in str(refused.value)
    assert "wrong-secret" not in str(refused.value)
