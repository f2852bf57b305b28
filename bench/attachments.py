"""Uploads and downloads of files beside a bare Flask route that does the same in memory."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import median

import psutil

from bench.client import Account
from bench.processes import cpu_between, cpu_seconds
from bench.servers import HOST, Gunicorn
from bench.suite import Report, Row, Target

SIZES_MB = (1, 10, 100)
MB = 10**6
MAX_GROWTH_MIB = 50.0
MAX_CPU_RATIO = 3.0
_OPENING = b'--bench\r\nContent-Disposition: form-data; name="file"; filename="bench.bin"\r\n\r\n'
_CLOSING = b"\r\n--bench--\r\n"


@dataclass(frozen=True)
class Transferred:
    """One upload or download."""

    cpu_ms_per_mb: float
    mb_per_s: float
    growth_mib: float  # of the worker, at its highest


class Highest(threading.Thread):
    """Follows the memory of a process until the end of its block."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._first = self._highest = self._process.memory_info().rss
        self._done = threading.Event()

    def __enter__(self) -> "Highest":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        while not self._done.wait(0.005):
            self._highest = max(self._highest, self._process.memory_info().rss)

    @property
    def growth_mib(self) -> float:
        return (self._highest - self._first) / 2**20


def measure_attachments(
    database: str, service: Gunicorn, hello: Gunicorn, rounds: int, report: Report
) -> list[Row]:
    """The rows of one database: each size, up and down, each right after the yardstick."""
    token = Account(service.port).token
    rows = []
    for size_mb in SIZES_MB:
        found: dict[tuple[str, str], list[Transferred]] = {}
        for number in range(rounds):
            for who, server, path in (("bare", hello, "/files"), ("service", service, "/chat/attachments")):
                up, down = _round_trip(server, path, token, size_mb, number)
                found.setdefault((who, "upload"), []).append(up)
                found.setdefault((who, "download"), []).append(down)
        for what in ("upload", "download"):
            name = f"{what} of {size_mb} MB on {database}"
            report.measurements[name] = [asdict(each) for each in found["service", what]]
            rows.append(_row(name, found["service", what], found["bare", what], size_mb))
    return rows


def _row(name: str, measured: list[Transferred], bare: list[Transferred], size_mb: int) -> Row:
    cpu, bare_cpu = (median(each.cpu_ms_per_mb for each in series) for series in (measured, bare))
    growth, bare_growth = (max(each.growth_mib for each in series) for series in (measured, bare))
    cells = {
        "transfer": name,
        "CPU ms per MB": f"{cpu:.2f}",
        "bare": f"{bare_cpu:.2f}",
        "MB/s": f"{median(each.mb_per_s for each in measured):.0f}",
        "bare MB/s": f"{median(each.mb_per_s for each in bare):.0f}",
        "memory MiB": f"+{growth:.1f}",
        "bare MiB": f"+{bare_growth:.1f}",
    }
    limits = (
        (MAX_GROWTH_MIB,) if size_mb < 10 else (MAX_GROWTH_MIB, MAX_CPU_RATIO)
    )  # of a MB the request is most
    return Row(name, cells, Target((growth, cpu / bare_cpu)[: len(limits)], limits))


def _round_trip(
    server: Gunicorn, path: str, token: str, size_mb: int, number: int
) -> tuple[Transferred, Transferred]:
    """Upload a file that nobody has sent yet, and download it. Raises ValueError where it comes back changed."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=120)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "multipart/form-data; boundary=bench"}
    length = len(_OPENING) + size_mb * MB + len(_CLOSING)

    def upload() -> str:
        body = (part for parts in ([_OPENING], _chunks(size_mb, number), [_CLOSING]) for part in parts)
        connection.request("POST", path, body, {**headers, "Content-Length": str(length)})
        response = connection.getresponse()
        content = response.read()
        if response.status != 201:
            raise ValueError(f"{path}: {response.status} {content[:200]!r}")
        return str(json.loads(content)["file_path"])

    def download() -> str:
        connection.request("GET", file_path, headers={"Authorization": headers["Authorization"]})
        response = connection.getresponse()
        received = 0
        while chunk := response.read(MB):
            received += len(chunk)
        if (response.status, received) != (200, size_mb * MB):
            raise ValueError(f"{file_path}: {response.status}, {received} bytes")
        return ""

    try:
        up, file_path = _measured(server, upload, size_mb)
        down, _ = _measured(server, download, size_mb)
    finally:
        connection.close()
    return up, down


def _measured(server: Gunicorn, act: Callable[[], str], size_mb: int) -> tuple[Transferred, str]:
    pids = [server.process.pid]
    with Highest(server.worker) as memory:
        before, began = cpu_seconds(pids), time.monotonic()
        result = act()
        seconds = time.monotonic() - began
        cpu = cpu_between(before, cpu_seconds(pids))
    return Transferred(cpu * 1000 / size_mb, size_mb / seconds, memory.growth_mib), result


def _chunks(size_mb: int, number: int) -> Iterator[bytes]:
    """A file of its own for each size and number."""
    for index in range(size_mb):
        yield (b"\xff%07d%07d\xff" % (number * 1000 + size_mb, index)) * (MB // 16)
