"""Turns the results into tables for people."""

from bench.processes import limitations
from bench.report import QUIET, spread_text, table, verdict
from bench.streaming import cap, first_token
from bench.streaming.results import StreamingResults
from bench.streaming.yardstick import REFERENCE_US

ONE_BY_ONE = 0.9
"""Events per chunk below which a service must have gathered chunks, and not just met two at once now and then."""

AT_REFERENCE = "at the reference's speed"

CROWDED = 0.9
"""How busy the load generator's core may be before it is what is measured."""


def sections(results: StreamingResults) -> list[tuple[str, str]]:
    """Heading and table of each part that was measured."""
    parts = [
        ("Provider and client alone, without a service (the floor)", floor_table(results)),
        ("Time to first token, one stream at a time", first_token_table(results)),
        ("CPU per 1,000 chunks (medians)", chunks_table(results)),
        ("Streams held at once, 20 chunks/s each", held_table(results)),
        ("GET of one conversation, 50/s, while those streams run", plain_get_table(results)),
        ("Streams beyond the cap", cap_table(results)),
    ]
    return [(heading, text) for heading, text in parts if text]


def speed(results: StreamingResults) -> list[str]:
    """By which figures the verdicts go, in a sentence; nothing where the yardstick was not measured."""
    return [
        f"The bare Flask route took {row.server_us.median:.0f} us of CPU per request here (median of {row.turns}, "
        f"{row.server_us.least:.0f}-{row.server_us.greatest:.0f}), {REFERENCE_US:.0f} us on the targets' machine: "
        "the verdicts on added time to first token, CPU per 1,000 chunks and GETs beside streams go by what was "
        f"measured divided by {row.slowness:.2f} ({AT_REFERENCE}), all others by what was measured."
        for row in results.yardstick
    ]


def doubts(results: StreamingResults) -> list[str]:
    """What makes these results less certain than they look, in sentences."""
    gathered = [
        f"{row.service} passed on {1 / max(row.deltas_per_chunk.median, 1e-9):.1f} chunks as one event ({row.work}): "
        "its CPU is of chunks that came one by one, but did not go on so."
        for row in results.chunks
        if row.one_by_one and row.deltas_per_chunk.median < ONE_BY_ONE
    ]
    crowded = [
        f"While {row.streams} streams were held on {row.service}, provider, client and database used "
        f"{row.load_busy.greatest:.0%} of their core: gaps and latencies are partly theirs."
        for row in results.held
        if row.load_busy.greatest > CROWDED
    ]
    disturbed = [
        f"The yardstick had its core for {row.busy.median:.0%} of the time only: other processes were at work, which "
        "makes the machine look slower than it is, and the services better. Measure again on a quieter machine."
        for row in results.yardstick
        if row.busy.median < QUIET
    ]
    scaled = [f"As measured, this would fall short: {title}." for title in results.missed_as_measured]
    return limitations() + gathered + crowded + disturbed + scaled


def floor_table(results: StreamingResults) -> str:
    """What provider and client do without a service between them."""
    rows = [
        [
            row.work,
            f"{row.rate:,.0f}",
            f"{row.busy:.2f}",
            f"{row.ttft_p50_ms:.1f}",
            f"{row.gap_p99_ms:.1f}",
            str(row.failed),
        ]
        for row in results.floor
    ]
    return table(["streams", "chunks/s", "busy", "first p50 ms", "gap p99 ms", "failed"], rows)


def first_token_table(results: StreamingResults) -> str:
    """Times to the first token; "added" is beyond the median of the provider's own."""
    header = ["service", "streams", "own p50 ms", "p50 ms", "p99 ms", "added p50 ms", "added p99 ms"]
    header += [AT_REFERENCE, "failed", "target", ""]
    rows = [
        [
            row.service,
            str(row.streams),
            f"{row.own_p50_ms:.2f}",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
            f"{row.added_p50_ms:.2f}",
            f"{row.added_p99_ms:.2f}",
            "{:.2f} / {:.2f}".format(*row.reference_ms),
            str(row.failed),
            f"<= {first_token.LIMIT_P50_MS:g} / {first_token.LIMIT_P99_MS:g}",
            verdict(row.met),
        ]
        for row in results.first_token
    ]
    return table(header, rows)


def chunks_table(results: StreamingResults) -> str:
    """CPU per chunk. "busy" is the share of its core that the service used, "deltas" are events per chunk."""
    header = ["service", "work", "chunks/s", "busy", "deltas", "gap p99 ms", "DB CPU ms", "CPU ms (min-max)"]
    header += [AT_REFERENCE, "failed", "target", ""]
    rows = [
        [
            row.service,
            row.work,
            f"{row.rate.median:,.0f}",
            f"{row.busy.median:.2f}",
            f"{row.deltas_per_chunk.median:.2f}",
            f"{row.gap_p99_ms.median:.1f}",
            f"{row.database_ms.median:.1f}",
            spread_text(row.server_ms),
            f"{row.reference_ms:.2f}",
            str(row.failed),
            f"<= {row.limit_ms:g}" if row.limit_ms is not None else "",
            verdict(row.met),
        ]
        for row in results.chunks
    ]
    return table(header, rows)


def held_table(results: StreamingResults) -> str:
    """Streams held. "late" is how long after the provider they ended.

    "load" is how busy provider, client and database kept their core.
    """
    header = [
        "service",
        "streams",
        "at once",
        "failed",
        "first p99 ms",
        "gap p99 ms (min-max)",
        "late p99 ms",
        "busy",
        "load",
    ]
    header += ["before MiB", "KiB per stream", "target", ""]
    rows = [
        [
            row.service,
            f"{row.streams:,}",
            f"{row.least_at_once:,}",
            str(row.failed),
            f"{row.ttft_p99_ms.median:.0f}",
            spread_text(row.gap_p99_ms),
            f"{row.late_p99_ms.median:.0f}",
            f"{row.busy.median:.2f}",
            f"{row.load_busy.median:.2f}",
            "" if row.before_mib is None else f"{row.before_mib:.1f}",
            "" if row.stream_kib is None else f"{row.stream_kib:.0f}",
            "all, stored",
            verdict(row.met),
        ]
        for row in results.held
    ]
    return table(header, rows)


def plain_get_table(results: StreamingResults) -> str:
    """A plain GET beside the streams; "quiet" is the same before the first stream."""
    header = [
        "streams in",
        "streams",
        "GETs go to",
        "GETs",
        "quiet p99 ms",
        "p50 ms",
        "p99 ms (min-max)",
        AT_REFERENCE,
        "failed",
    ]
    rows = [
        [
            row.service,
            f"{row.streams:,}",
            row.where,
            f"{row.requests:,}",
            f"{row.quiet_p99_ms.median:.1f}",
            f"{row.p50_ms.median:.2f}",
            spread_text(row.p99_ms),
            f"{row.reference_ms:.2f}",
            str(row.failed),
            f"<= {row.limit_ms:g}" if row.limit_ms is not None else "",
            verdict(row.met),
        ]
        for row in results.plain_gets
    ]
    return table([*header, "target", ""], rows)


def cap_table(results: StreamingResults) -> str:
    """Refusals beyond the caps; refused are those with the right status and a `Retry-After`."""
    header = ["service", "cap of", "running", "tried", "refused", "status", "p50 ms", "slowest ms", "failed"]
    rows = [
        [
            row.service,
            f"the {row.cap}",
            str(row.running),
            str(row.tried),
            str(row.refused),
            row.expected,
            f"{row.p50_ms:.1f}",
            f"{row.slowest_ms:.1f}",
            str(row.failed),
            f"all, <= {cap.LIMIT_MS:g} ms",
            verdict(row.met),
        ]
        for row in results.cap
    ]
    return table([*header, "target", ""], rows)
