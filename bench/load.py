"""Has load sent by a generator in a process of its own, in interleaved rounds: a slow minute hits all alike."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from bench.figures import Spread
from bench.servers import HOST, Gunicorn, PipedProcess
from bench.suite import Report, progress

CONNECTIONS = 16
WARM_UP_S = 0.3
QUIET = 0.9
"""How busy the yardstick, which waits for nothing, keeps a core that it has to itself."""


@dataclass(frozen=True)
class Measurement:
    """The result of one window of load."""

    requests: int
    seconds: float
    server_cpu_s: float
    database_cpu_s: float
    p50_ms: float
    p99_ms: float
    body_bytes: int
    failures: dict[str, int]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def busy(self) -> float:
        """Share of its core that the server used."""
        return self.server_cpu_s / self.seconds

    @property
    def server_us(self) -> float:
        """CPU time of the server's processes per request, in microseconds."""
        return self.server_cpu_s / max(self.requests, 1) * 1e6

    @property
    def cpu_us(self) -> float:
        """CPU time of both."""
        return self.server_us + self.database_us

    @property
    def database_us(self) -> float:
        """CPU time of the database server's processes per request, in microseconds."""
        return self.database_cpu_s / max(self.requests, 1) * 1e6


@dataclass(frozen=True)
class Subject:
    """What load is sent to. `requests` makes one for each connection, anew each time: tokens expire."""

    name: str
    server: Gunicorn
    requests: Callable[[], list[str]]
    database_pids: Sequence[int] = ()


class Series:
    """The measurements of one subject, round by round."""

    def __init__(self, measurements: list[Measurement]) -> None:
        self.measurements = measurements

    @property
    def failed(self) -> int:
        """Requests without a 2xx answer, those of the warm-up included."""
        return sum(sum(one.failures.values()) for one in self.measurements)

    def spread(self, figure: str) -> Spread:
        """One figure over the rounds."""
        return Spread.over([getattr(one, figure) for one in self.measurements])

    def median(self, figure: str) -> float:
        """The median of one figure over the rounds."""
        return self.spread(figure).median

    def ratio(self, other: "Series", figure: str) -> Spread:
        """One figure divided by the other's in the same round."""
        pairs = zip(self.measurements, other.measurements, strict=True)
        return Spread.over([getattr(one, figure) / max(getattr(base, figure), 1e-9) for one, base in pairs])


def get_request(port: int, path: str, token: str = "") -> str:
    """The bytes of a GET, as text."""
    return f"GET {path} HTTP/1.1\r\n{_common_headers(port, token)}\r\n"


def post_request(port: int, path: str, token: str, body: object, headers: str = "") -> str:
    """The bytes of a POST with a JSON body, as text."""
    text = json.dumps(body)
    headers += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{_common_headers(port, token)}{headers}\r\n{text}"


def _common_headers(port: int, token: str) -> str:
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"Host: {HOST}:{port}\r\nAccept: application/json\r\n{authorization}"


def hello_subject(hello: Gunicorn, name: str, database_pids: Sequence[int] = ()) -> Subject:
    """The yardstick, for the load generator."""
    requests = [get_request(hello.port, "/hello")] * CONNECTIONS
    return Subject(name, hello, lambda: requests, database_pids)


def note_disturbance(report: Report, name: str, busy: float) -> None:
    """Note that other processes were at work, if the yardstick did not get its core."""
    if busy < QUIET:
        report.notes.append(
            f"{name} had its core for {busy:.0%} of the time only: other processes were at work, "
            "which costs every process CPU time too. Measure again on a quieter machine."
        )


def measure(subject: Subject, seconds: float, report: Report) -> Measurement:
    """Send load to a subject once; failures go into the report."""
    order = {
        "host": HOST,
        "port": subject.server.port,
        "requests": subject.requests(),
        "server_pids": [subject.server.process.pid],
        "database_pids": list(subject.database_pids),
        "seconds": seconds,
        "warm_up_s": WARM_UP_S,
    }
    measurement = Measurement(**json.loads(PipedProcess("bench.load_client").finish(json.dumps(order))))
    report.fail(subject.name, measurement.failures)
    report.measurements.setdefault(subject.name, []).append(asdict(measurement))
    return measurement


def measure_rounds(
    subjects: Sequence[Subject], rounds: int, seconds: float, report: Report
) -> dict[str, Series]:
    """Measure every subject once in each round."""
    measurements: dict[str, list[Measurement]] = {subject.name: [] for subject in subjects}
    for number in range(1, rounds + 1):
        for subject in subjects:
            progress(f"round {number} of {rounds}: {subject.name}")
            measurements[subject.name].append(measure(subject, seconds, report))
    return {name: Series(series) for name, series in measurements.items()}
