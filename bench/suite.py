"""What the suites share: the command line, rows with their verdicts, tables, notes and the exit code."""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import limitations

DATABASES = ("sqlite", "postgres")
OK, SHORT = "ok", "FALLS SHORT"
AT_REFERENCE = "at the reference's speed"


@dataclass(frozen=True)
class Target:
    """The most that some figures may be; `is_scaled`: at the speed of the reference machine."""

    figures: tuple[float, ...]
    limits: tuple[float, ...]
    is_scaled: bool = False

    def is_met(self, slowness: float) -> bool:
        """Whether no figure is above its limit on a machine that is so many times as slow as the reference."""
        return all(figure <= limit for figure, limit in zip(self.at(slowness), self.limits, strict=True))

    def at(self, slowness: float) -> tuple[float, ...]:
        """The figures that the verdict goes by."""
        return tuple(figure / slowness for figure in self.figures) if self.is_scaled else self.figures

    def __str__(self) -> str:
        return "<= " + " / ".join(f"{limit:g}" for limit in self.limits)


@dataclass(frozen=True)
class Row:
    """A line of a table: what it measures in words, its cells by column, and its target."""

    title: str
    cells: Mapping[str, str]
    target: Target | None = None
    failed: int = 0

    def is_met(self, slowness: float) -> bool | None:
        """Whether its target is met, with nothing failed; None without a target."""
        return None if self.target is None else self.target.is_met(slowness) and not self.failed


@dataclass
class Report:
    """What a run measured. `slowness`: CPU time of the yardstick here, divided by that of the reference machine."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    measurements: dict[str, list[Any]] = field(default_factory=dict)
    failures: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=limitations)
    slowness: float = 1.0

    def fail(self, name: str, kinds: Mapping[str, int]) -> int:
        """Count failures by name and kind; how many these are."""
        known = self.failures.setdefault(name, {}) if kinds else {}
        for kind, count in kinds.items():
            known[kind] = known.get(kind, 0) + count
        return sum(kinds.values())

    @property
    def missed(self) -> list[str]:
        """The targets that were missed."""
        return self._missed_at(self.slowness)

    def print(self) -> None:
        """Tables, notes and the verdict on stdout, failures on stderr."""
        for heading, rows in self.tables.items():
            if rows:
                print(f"{heading}:\n\n{self._table(rows)}\n")
        scaled = [title for title in self._missed_at(1.0) if title not in self.missed]
        for note in self.notes + [f"As measured, this would fall short: {title}." for title in scaled]:
            print(f"NOTE: {note}")
        if self.missed:
            print(f"{SHORT} of its target: {'; '.join(self.missed)}.")
        elif not self.failures:
            print("All measured targets are met.")
        for name, kinds in self.failures.items():
            print(f"\n!!! FAILED, so nothing above counts: {name}: {kinds}", file=sys.stderr)

    def write_json(self, file: Path) -> None:
        """Rows and every single measurement, for a script that compares runs."""
        file.write_text(json.dumps({**asdict(self), "missed": self.missed}, indent=2) + "\n")

    def _missed_at(self, slowness: float) -> list[str]:
        rows = [row for rows in self.tables.values() for row in rows]
        return [row.title for row in rows if row.is_met(slowness) is False]

    def _table(self, rows: Sequence[Row]) -> str:
        """A Markdown table whose columns line up in a terminal too."""
        has_scaled = any(row.target and row.target.is_scaled for row in rows)
        lines = [[*rows[0].cells, *[AT_REFERENCE] * has_scaled, "target", ""]]
        for row in rows:
            at = " / ".join(f"{figure:.2f}" for figure in row.target.at(self.slowness)) if row.target else ""
            verdict = {None: "", True: OK, False: SHORT}[row.is_met(self.slowness)]
            lines.append([*row.cells.values(), *[at] * has_scaled, str(row.target or ""), verdict])
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        return "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        )


def options_parser(prog: str, description: str, *, rounds: int) -> argparse.ArgumentParser:
    """The options that every suite has."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="Exit code: 0, or 1 if anything failed (with --strict also if a target was missed).",
    )
    add = parser.add_argument
    add("--database", choices=(*DATABASES, "both"), default="both")
    add(
        "--rounds",
        type=int,
        default=rounds,
        help=f"measurements of each; the median counts (default {rounds})",
    )
    add("--quick", action="store_true", help="the smallest sizes, to see whether everything works")
    add("--strict", action="store_true", help="exit 1 if a target is missed")
    add("--json", type=Path, metavar="FILE", help="write rows and every single measurement to a file too")
    return parser


def run(
    parser: argparse.ArgumentParser,
    quick: Mapping[str, Any],
    measure: Callable[[argparse.Namespace, Report, Path], None],
    parts: Sequence[str] = (),
) -> int:
    """Parse the command line (`quick`: what --quick sets), measure in a temporary folder, report; the exit code."""
    if parts:
        names = ", ".join(parts)
        for name, what in (("only", "measure this part"), ("skip", "leave this part out")):
            text = f"{what}; repeatable: {names}"
            parser.add_argument(f"--{name}", action="append", choices=parts, metavar="PART", help=text)
    options = parser.parse_args()
    if options.quick:
        vars(options).update(quick)
    options.databases = DATABASES if options.database == "both" else (options.database,)
    options.parts = set(vars(options).get("only") or parts) - set(vars(options).get("skip") or ())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped, as on Ctrl-C
    report = Report()
    with tempfile.TemporaryDirectory(prefix="chat-api-bench-") as folder:
        Path(folder).chmod(0o755)  # as root, Postgres runs as another user
        measure(options, report, Path(folder))
    progress("")
    report.print()
    if options.json:
        report.write_json(options.json)
    return 1 if report.failures or (report.missed and options.strict) else 0


def progress(text: str) -> None:
    """Say on stderr what is being done: in a terminal on one line, which the next one overwrites."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr)
