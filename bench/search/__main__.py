"""The command line: `python -m bench.search`, or `make bench-search`."""

import argparse
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import databases
from bench.progress import clear_progress, progress
from bench.report import table, verdict
from bench.search.filled import filled
from bench.search.measuring import (
    SearchRow,
    SizeRow,
    WriteRow,
    measure_searches,
    measure_sizes,
    measure_writes,
)
from bench.servers import Gunicorn
from bench.setting import migrate

QUICK_SIZE = 20_000


@dataclass
class SearchResults:
    """Everything that was measured."""

    searches: list[SearchRow] = field(default_factory=list)
    writes: list[WriteRow] = field(default_factory=list)
    sizes: list[SizeRow] = field(default_factory=list)


def main() -> int:
    """Measure what the command line asks for; the exit code."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped, as on Ctrl-C
    results, load_before = SearchResults(), os.getloadavg()[0]
    with ExitStack() as stack:
        folder = options.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="chat-api-bench-"))
        )
        folder.chmod(0o755)  # Postgres runs as somebody else if we are root
        for name in options.databases:
            with filled(name, folder.resolve(), options.size, progress) as database:
                migrate(database.settings)
                with Gunicorn(
                    "wsgi:app", ready_path="/readyz", folder=database.folder, settings=database.settings
                ) as service:
                    results.searches += measure_searches(database, service, options.rounds, progress)
                    results.writes += measure_writes(database, service, progress)
                results.sizes += measure_sizes(database)
    clear_progress()
    _print(results, options.size)
    print(f"The machine's load was {load_before:.1f} before and {os.getloadavg()[0]:.1f} after.")
    missed = [f"{row.kind.name} on {row.database}" for row in results.searches if not row.met]
    print(f"FALLS SHORT of its target: {'; '.join(missed)}." if missed else "All targets are met.")
    return 1 if missed else 0


def _print(results: SearchResults, size: int) -> None:
    print(f"Searches over {size:,} messages of one user, beside {size:,} of another, in ms:\n")
    header = ["database", "kind", "first time p95", "p50", "p95", "max", "found", "p95 target", ""]
    rows = [
        [row.database, row.kind.name, *map(_ms, (row.first.p95, row.times.p50, row.times.p95, row.times.part(1))),
         f"{row.found:.1f}", f"<= {row.kind.limit_ms:.0f}", verdict(row.met)]
        for row in results.searches
    ]  # fmt: skip
    print(table(header, rows), end="\n\n")
    print("Writing, in ms:\n")
    header = ["database", "what", "messages indexed", "p50", "p95"]
    written = [
        [row.database, row.what, f"{row.messages:,}", _ms(row.times.p50), _ms(row.times.p95)]
        for row in results.writes
    ]
    print(table(header, written), end="\n\n")
    print("Size for each message:\n")
    sizes = [[row.database, row.what, f"{row.size_bytes:,.0f}"] for row in results.sizes]
    print(table(["database", "what", "bytes"], sizes), end="\n\n")


def _ms(time_ms: float) -> str:
    return f"{time_ms:.1f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.search",
        description="Measures full-text search over many messages of one user, beside as many of another.",
        epilog="Exit code: 0, or 1 if a p95 is beyond its target.",
    )
    add = parser.add_argument
    add("--database", choices=(*databases.NAMES, "both"), default="both")
    add("--size", type=int, default=1_000_000, help="messages of each of the two users (default: a million)")
    add("--rounds", type=int, default=3, help="how often everything is asked (default 3)")
    add("--folder", type=Path, help="fill here, and keep it for the next time (default: a temporary folder)")
    add("--quick", action="store_true", help=f"does it work at all: {QUICK_SIZE:,} messages, one round")
    options = parser.parse_args()
    if options.quick:
        options.size, options.rounds = QUICK_SIZE, 1
    options.databases = databases.NAMES if options.database == "both" else (options.database,)
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    sys.exit(main())
