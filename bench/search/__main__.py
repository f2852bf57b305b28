"""Measures full-text search over many messages of one user, beside as many of another: `make bench-search`."""

import argparse
import os
import sys
from pathlib import Path

from bench.search.filled import filled
from bench.search.measuring import measure_searches, measure_sizes, measure_writes
from bench.servers import serve_app
from bench.suite import Report, options_parser, run

QUICK = {"rounds": 1, "size": 20_000}


def _measure(options: argparse.Namespace, report: Report, folder: Path) -> None:
    """Fill each database and measure on it."""
    load_before = os.getloadavg()[0]
    searches = report.tables.setdefault("Searches, in ms; the target is that of the p95", [])
    writes = report.tables.setdefault("Writing, in ms", [])
    sizes = report.tables.setdefault("Size for each message", [])
    for name in options.databases:
        with filled(name, (options.folder or folder).resolve(), options.size) as database:
            with serve_app(database.database) as service:
                searches += measure_searches(database, service, options.rounds, report)
                writes += measure_writes(database, service)
            sizes += measure_sizes(database)
    report.notes.append(
        f"{options.size:,} messages of each of two users. "
        f"The machine's load was {load_before:.1f} before and {os.getloadavg()[0]:.1f} after."
    )


def main() -> int:
    """Run the suite; the exit code."""
    parser = options_parser("python -m bench.search", str(__doc__), rounds=3)
    add = parser.add_argument
    add("--size", type=int, default=1_000_000, help="messages of each of the two users (default: a million)")
    add("--folder", type=Path, help="fill here, and keep it for the next time (default: a temporary folder)")
    return run(parser, QUICK, _measure)


if __name__ == "__main__":
    sys.exit(main())
