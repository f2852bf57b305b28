"""Files in a bucket of S3, or of a service that speaks its protocol.

An object appears when it is complete, and is durable when the service has confirmed it. A large file is sent in parts,
each read from the disk while it is sent, so the memory that a transfer takes does not depend on the size of the file.

boto3 is imported with the first use: it takes 20 MB and a quarter of a second, and most deployments have no bucket.
"""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from .interface import CHUNK_BYTES, NAME, Chunks, Incoming, NotStored, Stored, check_name

SPOOL = "spool"  # the folder in DATA_DIR for temporary files without a name
PART_BYTES = 16 * 1024 * 1024
MAX_PARTS = 10_000  # of one object
LEFTOVER_AFTER = timedelta(days=1)  # longer than any upload takes
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
TRIES = 4  # of each call, the first included
CONNECTIONS = 64
ANY_REGION = "us-east-1"  # for compatible servers, which have none but want one in the signature
MISSING = ("NoSuchKey", "404", "NotFound")
NO_SUCH_RANGE = ("InvalidRange", "416")
NO_SUCH_UPLOAD = ("NoSuchUpload", "404", "NotFound")


class S3Failed(OSError):
    """The bucket can't be used, or can't be reached. The message has what the service said, and no key."""


@dataclass
class SpooledFile:
    """A file that is being received: on the disk, without a name."""

    file: IO[bytes]


class S3Storage:
    """The files below one prefix of a bucket."""

    def __init__(self, *, bucket: str, prefix: str, endpoint_url: str, data_dir: str | Path) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._endpoint_url, self._spool = endpoint_url, Path(data_dir) / SPOOL
        self._made: Any = None
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """See `Storage`."""
        return f"s3://{self._bucket}/{self._prefix}"

    @contextmanager
    def new_file(self) -> Iterator[SpooledFile]:
        """See `Storage`. It is received as a whole first: what it is, and whether it is known, is in the bytes."""
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=self._spool)  # noqa: SIM115 - closing it may fail
        try:
            yield SpooledFile(file)
        finally:
            with suppress(OSError):  # a failed write has been reported already
                file.close()

    def put(self, name: str, incoming: Incoming) -> None:
        """See `Storage`. Either the whole object is there at the end, or nothing of it."""
        key, file = self._key(name), incoming.file
        file.flush()
        size_bytes = file.seek(0, 2)
        with _failures():
            if size_bytes > PART_BYTES:
                self._put_parts(key, file, size_bytes)
            else:
                self._client.put_object(**self._at(key), Body=_Section(file, 0, size_bytes))

    def _put_parts(self, key: str, file: IO[bytes], size_bytes: int) -> None:
        part_bytes = max(PART_BYTES, -(-size_bytes // MAX_PARTS))
        upload = {
            **self._at(key),
            "UploadId": self._client.create_multipart_upload(**self._at(key))["UploadId"],
        }
        try:
            parts = []
            for number, start in enumerate(range(0, size_bytes, part_bytes), 1):
                section = _Section(file, start, min(start + part_bytes, size_bytes))
                sent = self._client.upload_part(**upload, PartNumber=number, Body=section)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            with suppress(*_errors()):  # `remove_leftovers` is for one that can't be aborted
                self._client.abort_multipart_upload(**upload)
            raise

    def open(self, name: str, start: int = 0, stop: int | None = None) -> Chunks:
        """See `Storage`. Where the connection breaks off the rest is read from another one: objects never change."""
        return _Chunks(self, check_name(name), start, stop)

    def size_of(self, name: str) -> int | None:
        """See `Storage`."""
        with _failures():
            try:
                return int(self._client.head_object(**self._at(self._key(name)))["ContentLength"])
            except self._client.exceptions.ClientError as error:
                if _code(error) in MISSING:
                    return None
                raise

    def delete(self, name: str) -> None:
        """See `Storage`. A bucket that keeps versions keeps the bytes."""
        with _failures():
            self._client.delete_object(**self._at(self._key(name)))

    def names(self) -> Iterator[Stored]:
        """See `Storage`."""
        pages = self._client.get_paginator("list_objects_v2")
        with _failures():
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for each in page.get("Contents", ()):
                    name = each["Key"].removeprefix(self._prefix)
                    if NAME.fullmatch(name):
                        yield Stored(name, each["LastModified"].astimezone(UTC), each["Size"])

    def local_path(self, name: str) -> Path | None:
        """See `Storage`."""
        return None

    def remove_leftovers(self) -> int:
        """See `Storage`. Parts of an upload that was not completed cost money, and are in no list of objects."""
        count, oldest = 0, datetime.now(UTC) - LEFTOVER_AFTER
        with _failures():
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] < oldest and self._abort(upload):
                        count += 1
        return count

    def _abort(self, upload: dict[str, Any]) -> bool:
        """Whether it was still there."""
        try:
            self._client.abort_multipart_upload(**self._at(upload["Key"]), UploadId=upload["UploadId"])
        except self._client.exceptions.ClientError as error:
            if _code(error) not in NO_SUCH_UPLOAD:
                raise
            return False
        return True

    def read(self, name: str, start: int, stop: int | None) -> Any:
        """The body of an object from `start` to before `stop`, None where there are no such bytes. Raises NotStored."""
        options = (
            {}
            if start == 0 and stop is None
            else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        )
        with _failures():
            try:
                return self._client.get_object(**self._at(self._key(name)), **options)["Body"]
            except self._client.exceptions.ClientError as error:
                if _code(error) in MISSING:
                    raise NotStored(name) from None
                if _code(error) in NO_SUCH_RANGE:
                    return None
                raise

    def _key(self, name: str) -> str:
        return self._prefix + check_name(name)

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": key}

    @property
    def _client(self) -> Any:
        """The client, made once: any thread may use it."""
        if self._made is None:
            with self._lock:
                if self._made is None:
                    with _failures():
                        self._made = _make_client(self._endpoint_url)
        return self._made


class _Section:
    """The bytes of a file from `start` to before `stop`, read while they are sent.

    It is a file for boto3, which reads it twice: for the hash in the signature, and to send it. Only one section of a
    file is read at a time.
    """

    def __init__(self, file: IO[bytes], start: int, stop: int) -> None:
        self._file, self._start, self._size = file, start, stop - start
        self._position = 0

    def __len__(self) -> int:
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._position)
        count = left if size is None or size < 0 else min(size, left)
        self._file.seek(self._start + self._position)
        data = self._file.read(count)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, self._size)[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True


class _Chunks:
    """The bytes of an object, until their end or `close`."""

    def __init__(self, storage: S3Storage, name: str, start: int, stop: int | None) -> None:
        self._storage, self._name = storage, name
        self._position, self._stop = start, stop
        self._body: Any = None
        self._has_ended = stop is not None and stop <= start
        self._open()

    def __iter__(self) -> "_Chunks":
        return self

    def __next__(self) -> bytes:
        if self._has_ended:
            raise StopIteration
        chunk = self._read()
        if not chunk:
            self.close()
            raise StopIteration
        self._position += len(chunk)
        return chunk

    def _open(self) -> None:
        if self._has_ended:
            if self._storage.size_of(self._name) is None:
                raise NotStored(self._name)
            return
        self._body = self._storage.read(self._name, self._position, self._stop)
        self._has_ended = self._body is None

    def _read(self) -> bytes:
        """The next bytes. A client that pauses for long outlasts the connection to the bucket."""
        try:
            return bytes(self._body.read(CHUNK_BYTES))
        except _errors():
            self._let_go()
        with _failures():
            self._open()
            return b"" if self._body is None else bytes(self._body.read(CHUNK_BYTES))

    def close(self) -> None:
        """See `Chunks`."""
        self._has_ended = True
        self._let_go()

    def _let_go(self) -> None:
        """Close the connection: what is left of the body would have to be read to use it again."""
        body, self._body = self._body, None
        if body is not None:
            with suppress(*_errors(), OSError):
                body.close()


def _make_client(endpoint_url: str) -> Any:
    import boto3
    from botocore.config import Config

    session = boto3.session.Session()
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        max_pool_connections=CONNECTIONS,
        # the hash of what is sent is part of the signature, by https as well; the newer checksums in trailers are not
        # known to all compatible servers
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"payload_signing_enabled": True} | ({"addressing_style": "path"} if endpoint_url else {}),
    )
    region = session.region_name or (ANY_REGION if endpoint_url else None)
    return session.client("s3", endpoint_url=endpoint_url or None, region_name=region, config=config)


def _errors() -> tuple[type[Exception], ...]:
    """All that boto3 raises where the service or the way to it fails."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError, Boto3Error


@contextmanager
def _failures() -> Iterator[None]:
    """Turn boto3's errors into an OSError, as of a disk."""
    try:
        yield
    except _errors() as error:
        code = _code(error) or type(error).__name__
        raise S3Failed(f"The bucket can't be used: {code}.") from error


def _code(error: Exception) -> str:
    """What the service calls the error, where it said something."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
