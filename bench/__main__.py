"""Measures the hot endpoints against a bare Flask route under the same gunicorn: `make bench`."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.attachments import measure_attachments
from bench.endpoints import ENDPOINTS, Fixture
from bench.growth import measure_growth
from bench.histories import MESSAGES, measure_history
from bench.imports import measure_imports
from bench.load import Series, Subject, hello_subject, measure_rounds, note_disturbance
from bench.processes import pss_mib
from bench.servers import Database, Gunicorn, renew_statistics, running_database, serve_app, serve_hello
from bench.starts import measure_starts
from bench.suite import Report, Row, Target, options_parser, progress, run
from bench.worst import measure_worst

ENDPOINT_NAMES = tuple(endpoint.name for endpoint in ENDPOINTS)
PARTS = (*ENDPOINT_NAMES, "memory", "start", "history", "attachments", "import", "worst", "growth")
QUICK = {"rounds": 2, "seconds": 0.5}
IDLE_LIMIT_MIB = 80.0


@dataclass(frozen=True)
class Deployment:
    """A database and the service on it."""

    database: Database
    service: Gunicorn
    fixture: Fixture


def _measure(options: argparse.Namespace, report: Report, folder: Path) -> None:
    """Start everything, then measure the chosen parts; memory first, before any load.

    What fills large databases first is measured only where it was asked for by its name.
    """
    if options.parts.difference({"growth"}):
        _measure_small(options, report, folder)
    if "growth" in (options.only or ()):
        rounds = min(options.rounds, 6)
        measure_growth(
            options.databases, rounds, options.seconds, quick=options.quick, report=report, folder=folder
        )


def _measure_small(options: argparse.Namespace, report: Report, folder: Path) -> None:
    """All but what is measured beside much data."""
    with ExitStack() as stack:
        hello = stack.enter_context(serve_hello(folder / "hello"))
        deployments = []
        for name in options.databases:
            progress(f"starting on {name}")
            database = stack.enter_context(running_database(name, folder / name))
            service = stack.enter_context(serve_app(database))
            deployments.append(Deployment(database, service, Fixture(service.port)))
            renew_statistics(database)
        if "memory" in options.parts:
            report.tables["Memory of one idle worker"] = [*map(_memory_row, deployments)]
        if "start" in options.parts:
            rows = report.tables.setdefault("Starts on a migrated database (medians)", [])
            for one in deployments:
                rows += measure_starts(one.database, min(options.rounds, 6), report)
        if options.parts.intersection(ENDPOINT_NAMES):
            _measure_endpoints(deployments, hello, options, report)
        if "history" in options.parts:
            rows = [measure_history(one.database, one.fixture, report) for one in deployments]
            report.tables[f"A history of {MESSAGES} messages is recognised"] = rows
        if "attachments" in options.parts:
            rows = report.tables.setdefault("Files, beside a bare Flask route that has them in memory", [])
            for one in deployments:
                rounds = min(options.rounds, 3)
                rows += measure_attachments(one.database.name, one.service, hello, rounds, report)
        if "import" in options.parts:
            rows = report.tables.setdefault("Imports of one file (medians)", [])
            for one in deployments:
                rounds = min(options.rounds, 3)
                rows += measure_imports(one.service, one.database, rounds, quick=options.quick, report=report)
        if "worst" in options.parts:
            rows = report.tables.setdefault("The worst accepted request of each route (medians)", [])
            for one in deployments:
                rows += measure_worst(one.service, one.database, min(options.rounds, 3), report)


def _measure_endpoints(
    deployments: Sequence[Deployment], hello: Gunicorn, options: argparse.Namespace, report: Report
) -> None:
    """Measure the chosen endpoints, on each database right after the yardstick; ratios are taken round by round."""
    chosen = [endpoint for endpoint in ENDPOINTS if endpoint.name in options.parts]
    subjects = []
    for one in deployments:
        database = one.database
        subjects.append(hello_subject(hello, f"{database.name}: hello", database.server_pids))
        for endpoint in chosen:
            requests = partial(endpoint.requests, one.fixture)
            subjects.append(
                Subject(f"{database.name}: {endpoint.name}", one.service, requests, database.server_pids)
            )
    series = measure_rounds(subjects, options.rounds, options.seconds, report)
    rows = report.tables.setdefault("CPU per request against a bare Flask route (medians)", [])
    for one in deployments:
        name = one.database.name
        yardstick = series[f"{name}: hello"]
        rows.append(_row(name, "Flask hello", yardstick, yardstick, None))
        note_disturbance(report, f"The yardstick ({name})", yardstick.median("busy"))
        for endpoint in chosen:
            measured = series[f"{name}: {endpoint.name}"]
            rows.append(_row(name, endpoint.title, measured, yardstick, endpoint.limits.get(name)))


def _row(database: str, request: str, measured: Series, yardstick: Series, limit: float | None) -> Row:
    cpu_ratio = measured.ratio(yardstick, "server_us")
    cells = {
        "database": database,
        "request": request,
        "bytes": f"{measured.measurements[-1].body_bytes:,}",
        "CPU us": f"{measured.median('server_us'):.0f}",
        "DB CPU us": f"{measured.median('database_us'):.0f}",
        "busy": f"{measured.median('busy'):.2f}",
        "req/s": f"{measured.median('rate'):,.0f}",
        "p50 ms": f"{measured.median('p50_ms'):.2f}",
        "p99 ms": f"{measured.median('p99_ms'):.1f}",
        "failed": str(measured.failed),
        "req/s ratio": f"{measured.ratio(yardstick, 'rate').median:.2f}",
        "CPU ratio (min-max)": str(cpu_ratio),
    }
    target = None if limit is None else Target((cpu_ratio.median,), (limit,))
    return Row(f"CPU of {request} on {database}", cells, target, measured.failed)


def _memory_row(deployment: Deployment) -> Row:
    """A worker that has started, has answered the few requests of the preparation, and waits."""
    name, size = deployment.database.name, pss_mib(deployment.service.worker)
    target = None if size is None else Target((size,), (IDLE_LIMIT_MIB,))
    cells = {"database": name, "PSS MiB": "unknown" if size is None else f"{size:.1f}"}
    return Row(f"memory of a worker on {name}", cells, target)


def main() -> int:
    """Run the suite; the exit code."""
    parser = options_parser("python -m bench", str(__doc__), rounds=10)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measurement (default 1)")
    return run(parser, QUICK, _measure, PARTS)


if __name__ == "__main__":
    sys.exit(main())
