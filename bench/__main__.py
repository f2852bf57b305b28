"""The command line: `python -m bench`, or `make bench`."""

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench import databases, report
from bench.comparison import compare
from bench.depth import measure_depth
from bench.endpoints import ENDPOINTS
from bench.memory import measure_memory
from bench.progress import clear_progress, progress
from bench.results import Results
from bench.setting import running_setting
from bench.statements import count_statements

ENDPOINT_NAMES = tuple(endpoint.name for endpoint in ENDPOINTS)
PARTS = (*ENDPOINT_NAMES, "statements", "depth", "memory")


def main() -> int:
    """Measure what the command line asks for; the exit code."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped, as on Ctrl-C
    results = _measure(options)
    clear_progress()
    for heading, text in report.sections(results):
        print(f"{heading}:\n\n{text}\n")
    print(f"One worker; {options.rounds} rounds of {options.seconds:g} s each, taken in turns.")
    for sentence in report.doubts(results):
        print(f"NOTE: {sentence}")
    if results.missed:
        print(f"FALLS SHORT of its target: {'; '.join(results.missed)}.")
    elif not results.failures:
        print("All measured targets are met.")
    for name, kinds in results.failures.items():
        print(f"\n!!! FAILED REQUESTS, so nothing above counts: {name}: {kinds}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=2) + "\n")
    return 1 if results.failures or (results.missed and options.strict) else 0


def _measure(options: argparse.Namespace) -> Results:
    """Start everything, then measure the parts that were asked for; memory first, before any load."""
    results = Results()
    parts, pace = options.parts, {"rounds": options.rounds, "seconds": options.seconds, "progress": progress}
    with tempfile.TemporaryDirectory(prefix="chat-api-bench-") as folder, ExitStack() as stack:
        settings = []
        for name in options.databases:
            progress(f"starting on {name}")
            settings.append(stack.enter_context(running_setting(name, Path(folder) / name)))
        if "memory" in parts:
            results.memory = [row for setting in settings for row in measure_memory(setting)]
        if endpoints := parts.intersection(ENDPOINT_NAMES):
            results.comparison, rounds = compare(settings, endpoints, **pace)
            results.rounds.add(rounds)
        if "statements" in parts:
            progress("counting statements")
            results.statements = [row for setting in settings for row in count_statements(setting)]
        if "depth" in parts:
            for setting in settings:
                rows, rounds = measure_depth(setting, options.deep_messages, **pace)
                results.depth += rows
                results.rounds.add(rounds)
    return results


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures the hot endpoints against a bare Flask route under the same gunicorn.",
        epilog="Exit code: 0, or 1 if any request failed (with --strict also if a target was missed).",
    )
    add = parser.add_argument
    add("--database", choices=(*databases.NAMES, "both"), default="both")
    add(
        "--rounds",
        type=int,
        default=10,
        help="how often each takes a turn; the median counts (default 10)",
    )
    add("--seconds", type=float, default=1.0, help="length of one turn (default 1)")
    add(
        "--deep-messages",
        type=int,
        default=1_000_000,
        help="length of the long conversation (default: a million)",
    )
    add("--only", action="append", choices=PARTS, metavar="PART", help=f"may be repeated: {', '.join(PARTS)}")
    add(
        "--skip-depth",
        action="store_true",
        help="leave out the long conversation: filling it takes minutes",
    )
    add("--quick", action="store_true", help="does it work at all: 2 rounds of 0.5 s, 100,000 messages")
    add("--strict", action="store_true", help="exit 1 if a target is missed")
    add("--json", type=Path, metavar="FILE", help="write every single measurement to a file too")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.deep_messages = 2, 0.5, 100_000
    options.databases = databases.NAMES if options.database == "both" else (options.database,)
    options.parts = set(options.only or PARTS) - ({"depth"} if options.skip_depth else set())
    return options


if __name__ == "__main__":
    sys.exit(main())
