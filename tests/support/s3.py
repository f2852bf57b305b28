"""A real S3 server over HTTP: SeaweedFS, of the development requirements."""

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.support.server import free_port

START_TIMEOUT_S = 60.0
ACCESS_KEY, SECRET_KEY = "test-key", "test-secret-key"
BUCKET = "files"
PORTS = ("master", "master grpc", "volume", "volume grpc", "filer", "filer grpc", "s3", "s3 grpc")


def s3_program() -> str:
    """The server's program. Skips the test where there is none."""
    installed = shutil.which("weed", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    if installed is None:
        pytest.skip("there is no S3 server: no wheel for this machine, and none is installed")
    return installed


class S3Server:
    """A context manager: a server with one bucket, in a folder of its own."""

    def __init__(self) -> None:
        self._program = s3_program()
        self._folder = Path(tempfile.mkdtemp(prefix="chat-api-s3-"))
        self._ports = {name: free_port() for name in PORTS}
        self._process: subprocess.Popen[bytes] | None = None
        self.client: Any = None

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """What the service needs to use it, besides ATTACHMENT_STORAGE."""
        return {
            "S3_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> Self:
        try:
            self.start()
            self.client = self._make_client()
            self._make_bucket()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._clean_up()

    def start(self) -> None:
        """Start the process, also again on the same data."""
        identity = {
            "name": "test",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (self._folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        options = {
            "dir": self._folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.config": self._folder / "s3.json",
        }
        options |= {
            "master.volumeSizeLimitMB": 64,
            "volume.max": 0,
            "master.telemetry": "false",
            "s3.iam": "false",
        }
        options |= {"s3.port.iceberg": 0, "s3.port.lance": 0}
        options |= {f"{part}.port": self._ports[part] for part in ("master", "volume", "filer", "s3")}
        options |= {
            f"{part}.port.grpc": self._ports[f"{part} grpc"] for part in ("master", "volume", "filer", "s3")
        }
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-logtostderr", "server", "-filer", "-s3"]
                + [f"-{name}={value}" for name, value in options.items()],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
            )

    def stop(self) -> None:
        """End the process; the data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def keys(self) -> set[str]:
        """The keys of all objects."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {each["Key"] for page in pages for each in page.get("Contents", ())}

    def incomplete_uploads(self, prefix: str = "") -> list[str]:
        """The keys of multipart uploads that are neither completed nor aborted."""
        found = self.client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
        return [each["Key"] for each in found.get("Uploads", ())]

    def _make_client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1").client(
            "s3", endpoint_url=self.endpoint_url, config=Config(retries={"total_max_attempts": 1})
        )

    def _make_bucket(self) -> None:
        """As soon as it can store something: its parts find each other only after a while."""
        from botocore.exceptions import BotoCoreError, ClientError

        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                if not any(each["Name"] == BUCKET for each in self.client.list_buckets()["Buckets"]):
                    self.client.create_bucket(Bucket=BUCKET)
                self.client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
                self.client.delete_object(Bucket=BUCKET, Key="ready")
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > deadline or self._process is None or self._process.poll() is not None:
                    raise RuntimeError(
                        f"The S3 server did not start: {error}\n{self._end_of_log()}"
                    ) from error
                time.sleep(0.1)
            else:
                return

    def _end_of_log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-2000:]

    def _clean_up(self) -> None:
        if self.client is not None:
            self.client.close()
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
