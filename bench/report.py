"""Turns results into tables for people."""

from collections.abc import Sequence

from bench import depth, memory, statements
from bench.processes import limitations
from bench.results import Results
from bench.rounds import Spread

OK, SHORT = "ok", "FALLS SHORT"
QUIET = 0.9
"""How busy the yardstick, which waits for nothing, keeps a core that it has to itself."""


def sections(results: Results) -> list[tuple[str, str]]:
    """Heading and table of each part that was measured."""
    parts = [
        ("CPU per request against a bare Flask route (medians)", comparison_table(results)),
        ("Statements per request on Postgres", statements_table(results)),
        ("A page of 50 of a long conversation against the same page of one of 100", depth_table(results)),
        ("Memory of one idle worker", memory_table(results)),
    ]
    return [(heading, text) for heading, text in parts if text]


def doubts(results: Results) -> list[str]:
    """What makes these results less certain than they look, in sentences."""
    disturbed = [row for row in results.comparison if row.is_yardstick and row.busy.median < QUIET]
    return limitations() + [
        f"The yardstick ({row.database}) had its core for {row.busy.median:.0%} of the time only: other processes "
        "were at work, which costs every process CPU time too. Measure again on a quieter machine."
        for row in disturbed
    ]


def comparison_table(results: Results) -> str:
    """The hot endpoints against the yardstick. "busy" is the share of its core that the server used."""
    header = ["database", "request", "bytes", "CPU us", "DB CPU us", "busy", "req/s", "p50 ms", "p99 ms"]
    header += ["failed", "req/s ratio", "CPU ratio (min-max)", "target", ""]
    rows = [
        [
            row.database,
            row.request,
            f"{row.body_bytes:,}",
            f"{row.server_us.median:.0f}",
            f"{row.database_us.median:.0f}",
            f"{row.busy.median:.2f}",
            f"{row.rate.median:,.0f}",
            f"{row.p50_ms.median:.2f}",
            f"{row.p99_ms.median:.1f}",
            str(row.failed),
            f"{row.rate_ratio.median:.2f}",
            spread_text(row.cpu_ratio),
            f"<= {row.limit}" if row.limit is not None else "",
            verdict(row.met),
        ]
        for row in results.comparison
    ]
    return table(header, rows)


def statements_table(results: Results) -> str:
    """Statements per request on Postgres."""
    rows = [
        [row.request, f"{row.count:.3f}", str(statements.LIMIT), verdict(row.met)]
        for row in results.statements
    ]
    return table(["request", "statements", "target", ""], rows)


def depth_table(results: Results) -> str:
    """Pages of a long conversation against those of a short one; CPU is of service and database together."""
    header = ["database", "page", "messages", "CPU us, 100", "CPU us, long"]
    header += ["CPU ratio (min-max)", "p50 ratio (min-max)", "target", ""]
    rows = [
        [
            row.database,
            row.page,
            f"{row.length:,}",
            f"{row.short_us.median:.0f}",
            f"{row.long_us.median:.0f}",
            spread_text(row.cpu_ratio),
            spread_text(row.latency_ratio),
            f"<= {depth.LIMIT}",
            verdict(row.met),
        ]
        for row in results.depth
    ]
    return table(header, rows)


def memory_table(results: Results) -> str:
    """Memory of an idle worker."""
    rows = [
        [row.database, f"{row.pss_mib:.1f}", f"<= {memory.LIMIT_MIB:.0f}", verdict(row.met)]
        for row in results.memory
    ]
    return table(["database", "PSS MiB", "target", ""], rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in a terminal too; nothing if it has no rows."""
    if not rows:
        return ""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def verdict(met: bool | None) -> str:
    """What a table says of a target; nothing where there is none."""
    return "" if met is None else OK if met else SHORT


def spread_text(spread: Spread) -> str:
    """Median, least and greatest."""
    return f"{spread.median:.2f} ({spread.least:.2f}-{spread.greatest:.2f})"
