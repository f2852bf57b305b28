"""Measures streamed replies against a provider that streams at a set pace: `make bench-stream`."""

import argparse
import resource
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.load import Measurement, Series, hello_subject, measure, note_disturbance
from bench.servers import Database, Gunicorn, running_database, serve_app, serve_hello
from bench.streaming.chunks import WORKS, measure_chunks
from bench.streaming.dialects import measure_dialects
from bench.streaming.first_token import measure_first_token
from bench.streaming.held import measure_held
from bench.streaming.litellm import running_litellm
from bench.streaming.streams import Member, Provider, Service, running_provider
from bench.streaming.turns import measure_turns
from bench.suite import AT_REFERENCE, Report, options_parser, progress, run

WORK_NAMES = tuple(work.name for work in WORKS)
PARTS = ("first-token", *WORK_NAMES, "turn", "dialects", "litellm", "held")
WORKER_CLASSES = {"sqlite": ("threads",), "postgres": ("threads", "gevent")}
QUICK = {"rounds": 1, "hold_seconds": 2.0, "held_threads": 40, "held_gevent": 100, "members": 8}
MEMBERS = 40
"""Users that share the streams among them: 25 each, where a thousand are held."""

SPARE_STREAMS = 50
"""How many more streams a service may hold than it has to: its limit must not disturb the figures."""

OPEN_FILES = 16384
REFERENCE_US = 216.0
"""CPU of one request to the yardstick on the machine that the targets come from."""

YARDSTICK_S = 1.0


class Yardstick:
    """The bare route, served on the services' core: how fast this machine is during this run.

    Some targets are times on a reference machine. The same route was measured there, so what is measured here can be
    converted to that machine's speed. The route is measured in every round.
    """

    def __init__(self, server: Gunicorn, report: Report) -> None:
        self._subject = hello_subject(server, "the yardstick")
        self._report = report
        self._measurements: list[Measurement] = []

    def measure(self) -> None:
        """Measure it once more."""
        self._measurements.append(measure(self._subject, YARDSTICK_S, self._report))

    def judge(self) -> None:
        """Have the report judge by its speed."""
        if not self._measurements:
            return
        series = Series(self._measurements)
        server_us = series.spread("server_us")
        self._report.slowness = server_us.median / REFERENCE_US
        self._report.notes.append(
            f"The bare Flask route took {server_us} us of CPU per request here, {REFERENCE_US:.0f} us on the targets' "
            f'machine: verdicts with a figure "{AT_REFERENCE}" go by what was measured divided by '
            f"{self._report.slowness:.2f}."
        )
        note_disturbance(self._report, "The yardstick", series.median("busy"))


def _measure(options: argparse.Namespace, report: Report, folder: Path) -> None:
    """Start everything, then measure the chosen parts; the held streams before what fills the memory."""
    allow_open_files()
    held = {"threads": options.held_threads, "gevent": options.held_gevent}
    with ExitStack() as stack:
        provider = stack.enter_context(running_provider())
        hello = stack.enter_context(serve_hello(folder / "hello", WORKER_CLASS="threads"))
        yardstick = Yardstick(hello, report)
        services: list[Service] = []
        for name in options.databases:
            progress(f"starting on {name}")
            classes = [one for one in WORKER_CLASSES[name] if options.workers in {one, "both"}]
            if classes:
                database = stack.enter_context(running_database(name, folder / name))
                limits = {one: held[one] + SPARE_STREAMS for one in classes}
                services += stack.enter_context(
                    _running_services(database, limits, provider, options.members)
                )
        common = (yardstick.measure, report)
        if "first-token" in options.parts:
            rows = measure_first_token(services, provider, *common, options.rounds)
            report.tables["Time to first token, one stream at a time"] = rows
        if "held" in options.parts:
            how = {"rounds": options.rounds, "hold_s": options.hold_seconds}
            rows, get_rows = measure_held(services, provider, held, *common, **how)
            report.tables["Streams held at once, 20 chunks/s each"] = rows
            report.tables["GET of one conversation, 50/s, while those streams run"] = get_rows
        if "turn" in options.parts:
            rows = measure_turns(services, provider, hello, *common, options.rounds)
            report.tables["A whole turn of 100 chunks, one every 10 ms"] = rows
        if {"dialects", "litellm"} & options.parts:
            threads = [one for one in services if one.worker_class == "threads"]
            litellm = None
            if "litellm" in (options.only or ()):  # it is large, and takes a minute to start
                progress("starting LiteLLM's proxy")
                litellm = stack.enter_context(running_litellm(provider, folder / "litellm"))
            rows = measure_dialects(threads, provider, litellm, *common, options.rounds)
            report.tables["The dialect of OpenAI, in times of /chat/completions"] = rows
        if works := options.parts.intersection(WORK_NAMES):
            rows = measure_chunks(services, works, *common, options.rounds)
            report.tables["CPU per 1,000 chunks (medians)"] = rows
        yardstick.judge()
        for service in services if report.failures else ():
            print(f"{service.name}, from its log:\n{service.server.complaints()}", file=sys.stderr)


@contextmanager
def _running_services(
    database: Database, limits: dict[str, int], provider: Provider, members: int
) -> Iterator[list[Service]]:
    """A service for each worker class; `limits`: worker class -> how many streams it must be able to hold."""
    with ExitStack() as stack:
        servers = {}
        for one, limit in limits.items():
            streams = {
                "MAX_STREAMS": str(limit),
                "MAX_STREAMS_PER_USER": str(limit),
                "GRACEFUL_TIMEOUT_S": "5",
            }
            servers[one] = stack.enter_context(serve_app(database, name=one, WORKER_CLASS=one, **streams))
        neighbour = next(iter(servers.values()))
        if database.name != "sqlite":
            neighbour = stack.enter_context(serve_app(database, name="rest", WORKER_CLASS="threads"))
        users = [Member.register(neighbour.port, provider) for _ in range(members)]
        yield [Service(database, one, server, neighbour, users) for one, server in servers.items()]


def allow_open_files() -> None:
    """Let this process and all that it starts open as many sockets as a thousand streams need."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def main() -> int:
    """Run the suite; the exit code."""
    parser = options_parser("python -m bench.streaming", str(__doc__), rounds=5)
    add = parser.add_argument
    add(
        "--workers",
        choices=("threads", "gevent", "both"),
        default="both",
        help="worker class (SQLite: threads)",
    )
    add("--hold-seconds", type=float, default=10.0, help="how long all held streams run (default 10)")
    add("--held-threads", type=int, default=400, metavar="N", help="streams held on threads (default 400)")
    add("--held-gevent", type=int, default=1000, metavar="N", help="streams held on gevent (default 1000)")
    add("--members", type=int, default=MEMBERS, help=f"users that share the streams (default {MEMBERS})")
    return run(parser, QUICK, _measure, PARTS)


if __name__ == "__main__":
    sys.exit(main())
