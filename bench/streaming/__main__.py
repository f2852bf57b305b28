"""The command line: `python -m bench.streaming`, or `make bench-stream`."""

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench import databases
from bench.progress import clear_progress, progress
from bench.streaming import report
from bench.streaming.cap import measure_cap
from bench.streaming.chunks import WORKS, measure_chunks
from bench.streaming.first_token import measure_first_token
from bench.streaming.floor import measure_floor
from bench.streaming.held import measure_held
from bench.streaming.peers import running_provider
from bench.streaming.results import StreamingResults
from bench.streaming.services import Service, running_services
from bench.streaming.yardstick import running_yardstick

WORK_NAMES = tuple(work.name for work in WORKS)
JUDGED_BY_YARDSTICK = {"first-token", *WORK_NAMES, "held"}
PARTS = ("yardstick", "floor", "first-token", *WORK_NAMES, "held", "cap")
CLASSES = ("threads", "gevent")
MEMBERS = 40
"""Users that share the streams among them: 25 each, where a thousand are held."""

QUICK_MEMBERS = 8
SPARE_STREAMS = 50
"""How many more streams a service may hold than it is asked to: no cap may disturb the other figures."""


def main() -> int:
    """Measure what the command line asks for; the exit code."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped, as on Ctrl-C
    results = _measure(options)
    clear_progress()
    for heading, text in report.sections(results):
        print(f"{heading}:\n\n{text}\n")
    print(
        f"One worker; {options.rounds} rounds, taken in turns; streams held for {options.hold_seconds:g} s."
    )
    for sentence in report.speed(results):
        print(sentence)
    for sentence in report.doubts(results):
        print(f"NOTE: {sentence}")
    failures = results.failures.kinds
    if results.missed:
        print(f"FALLS SHORT of its target: {'; '.join(results.missed)}.")
    elif not failures and any(row.met for row in results.rows):
        print("All measured targets are met.")
    for name, kinds in failures.items():
        print(f"\n!!! FAILED, so nothing above counts: {name}: {kinds}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=2) + "\n")
    return 1 if failures or (results.missed and options.strict) else 0


def _measure(options: argparse.Namespace) -> StreamingResults:
    """Start everything, then measure the parts that were asked for; the held ones before what fills the memory."""
    results = StreamingResults()
    parts, failures = options.parts, results.failures
    pace = {"rounds": options.rounds, "progress": progress}
    with tempfile.TemporaryDirectory(prefix="chat-api-bench-") as folder, ExitStack() as stack:
        provider = stack.enter_context(running_provider())
        yardstick = stack.enter_context(running_yardstick(Path(folder) / "yardstick", failures))
        if "floor" in parts:
            most = max(options.held[worker_class] for worker_class in options.worker_classes)
            results.floor = measure_floor(provider, most, options.hold_seconds, failures, progress=progress)
        services: list[Service] = []
        for name in options.databases if parts - {"floor", "yardstick"} else ():
            progress(f"starting on {name}")
            running = running_services(
                name,
                options.worker_classes,
                provider,
                Path(folder) / name,
                members=options.members,
                streams={one: count + SPARE_STREAMS for one, count in options.held.items()},
            )
            services += stack.enter_context(running)
        if "first-token" in parts:
            results.first_token = measure_first_token(services, provider, yardstick, failures, **pace)
        if "held" in parts:
            results.held, results.plain_gets = measure_held(
                services, provider, options.held, yardstick, failures, hold_s=options.hold_seconds, **pace
            )
        if works := parts.intersection(WORK_NAMES):
            results.chunks = measure_chunks(services, works, yardstick, failures, **pace)
        if "cap" in parts:
            results.cap = measure_cap(services, failures, progress=progress)
        if "yardstick" in parts and not parts & JUDGED_BY_YARDSTICK:
            for _ in range(options.rounds):
                yardstick.take_turn()
        if yardstick.turns:
            results.judge_by(yardstick.row())
        if failures.kinds:
            clear_progress()
            for service in services:
                print(f"{service.name}, from its log:\n{service.complaints()}", file=sys.stderr)
    return results


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.streaming",
        description="Measures streamed replies against a provider that streams at a set pace.",
        epilog="Exit code: 0, or 1 if any stream failed or was not stored (with --strict also for a missed target).",
    )
    add = parser.add_argument
    add("--database", choices=(*databases.NAMES, "both"), default="both", help="SQLite: with threads only")
    add("--workers", choices=(*CLASSES, "both"), default="both", help="worker class of the streaming service")
    add("--rounds", type=int, default=5, help="how often each takes a turn; the median counts (default 5)")
    add("--hold-seconds", type=float, default=10.0, help="how long all held streams run (default 10)")
    add("--held-threads", type=int, default=400, metavar="N", help="streams held on threads (default 400)")
    add("--held-gevent", type=int, default=1000, metavar="N", help="streams held on gevent (default 1000)")
    add("--only", action="append", choices=PARTS, metavar="PART", help=f"may be repeated: {', '.join(PARTS)}")
    add("--quick", action="store_true", help="does it work at all: 1 round, 40 and 100 streams held for 2 s")
    add("--strict", action="store_true", help="exit 1 if a target is missed")
    add("--json", type=Path, metavar="FILE", help="write the results to a file too")
    options = parser.parse_args()
    options.members = MEMBERS
    if options.quick:
        options.rounds, options.hold_seconds, options.members = 1, 2.0, QUICK_MEMBERS
        options.held_threads, options.held_gevent = 40, 100
    options.held = {"threads": options.held_threads, "gevent": options.held_gevent}
    options.databases = databases.NAMES if options.database == "both" else (options.database,)
    options.worker_classes = CLASSES if options.workers == "both" else (options.workers,)
    options.parts = set(options.only or PARTS)
    return options


if __name__ == "__main__":
    sys.exit(main())
