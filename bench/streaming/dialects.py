"""What a reply costs through `/v1/chat/completions`, beside the same through `/chat/completions`, and LiteLLM's proxy.

All of them in the same rounds, from the same provider. LiteLLM's proxy stores nothing here and has one worker, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from bench.figures import Spread, percentile
from bench.streaming.chunks import FINISH_S, WORKS
from bench.streaming.first_token import PACES
from bench.streaming.litellm import LiteLlm
from bench.streaming.pace import Pace
from bench.streaming.streams import CHAT, NATIVE, Provider, Service, Streamed
from bench.suite import Report, Row, Target, progress

MOST = 1.15  # times /chat/completions
WORK = replace(WORKS[0], title="20 streams, 200 chunks, one every 5 ms", streams=20, at_once=20)
FIRST_TOKENS = "first token"


class Way(NamedTuple):
    """One way for a reply to come."""

    name: str
    stream: Callable[..., Streamed]


class Figures(NamedTuple):
    """What one round measured of a way."""

    cpu_ms: float  # per 1,000 chunks, with the database's
    first_ms: float  # to the first token, with the provider's own
    added_ms: float  # without it
    failed: int


def measure_dialects(
    services: Sequence[Service],
    provider: Provider,
    litellm: LiteLlm | None,
    measure_yardstick: Callable[[], None],
    report: Report,
    rounds: int,
) -> list[Row]:
    """Two rows for each service, and one for LiteLLM's proxy if it runs, in interleaved rounds after a warm-up."""
    ways = {
        f"{path} on {one.name}": Way(
            path, lambda *args, one=one, path=path, **more: one.stream(*args, path=path, **more)
        )
        for one in services
        for path in (NATIVE, CHAT)
    }
    if litellm:
        ways["LiteLLM's proxy"] = Way("LiteLLM", litellm.stream)
    runs: dict[str, list[Figures]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        if number:
            measure_yardstick()
        progress(f"dialects: {f'round {number} of {rounds}' if number else 'warm-up'}")
        own_s = median(provider.stream(PACES, report).ttft_s)
        for name, way in ways.items():
            figures = _measure(way, own_s, report)
            if number:
                runs[name].append(figures)
    rows = []
    for one in services:
        native, chat = runs[f"{NATIVE} on {one.name}"], runs[f"{CHAT} on {one.name}"]
        rows.append(_row(f"{NATIVE} on {one.name}", native, native, is_measured=False))
        rows.append(_row(f"{CHAT} on {one.name}", chat, native, is_measured=True))
        if litellm:
            rows.append(
                _compared(f"LiteLLM's proxy, beside {CHAT} on {one.name}", runs["LiteLLM's proxy"], chat)
            )
    return rows


def _measure(way: Way, own_s: float, report: Report) -> Figures:
    first = way.stream(FIRST_TOKENS, PACES, report)
    paces = [Pace(*WORK.pace, text=text) for text in range(WORK.streams)]
    whole = way.stream(WORK.name, paces, report, at_once=WORK.at_once, finish_s=FINISH_S)
    cpu_ms = (whole.server_cpu_s + whole.database_cpu_s) / WORK.chunks * 1e6
    first_s = percentile(first.measurement.ttft_s, 0.5)
    return Figures(cpu_ms, first_s * 1000, (first_s - own_s) * 1000, first.failed + whole.failed)


def _ratio(runs: Sequence[Figures], base: Sequence[Figures], figure: str) -> Spread:
    pairs = zip(runs, base, strict=True)
    return Spread.over([getattr(one, figure) / max(getattr(other, figure), 1e-9) for one, other in pairs])


def _row(name: str, runs: Sequence[Figures], base: Sequence[Figures], *, is_measured: bool) -> Row:
    cpu, first = _ratio(runs, base, "cpu_ms"), _ratio(runs, base, "first_ms")
    added = _ratio(runs, base, "added_ms")
    target = Target((cpu.median, first.median), (MOST, MOST)) if is_measured else None
    return _described(name, runs, cpu, first, added, target)


def _compared(name: str, runs: Sequence[Figures], base: Sequence[Figures]) -> Row:
    """What LiteLLM's proxy needs, in times of what the service needs: these are no targets, but what was promised."""
    cpu, added = _ratio(runs, base, "cpu_ms"), _ratio(runs, base, "added_ms")
    return _described(name, runs, cpu, _ratio(runs, base, "first_ms"), added, None)


def _described(
    name: str, runs: Sequence[Figures], cpu: Spread, first: Spread, added: Spread, target: Target | None
) -> Row:
    failed = sum(one.failed for one in runs)
    cells = {
        "way": name,
        "CPU ms per 1,000 chunks": str(Spread.over([one.cpu_ms for one in runs])),
        "first token p50 ms": f"{median(one.first_ms for one in runs):.2f}",
        "added p50 ms": f"{median(one.added_ms for one in runs):.2f}",
        "CPU, times": str(cpu),
        "first token, times": str(first),
        "added, times": str(added),
        "failed": str(failed),
    }
    return Row(name, cells, target, failed)
