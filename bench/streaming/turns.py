"""What a whole turn costs, beside a bare relay: question stored, 100 chunks streamed and checkpointed, reply stored.

The relay is a Flask route under the same gunicorn that sends the request on and the provider's bytes back.
"""

from collections.abc import Callable, Sequence

from bench.figures import Spread
from bench.servers import Gunicorn
from bench.streaming.pace import Pace
from bench.streaming.streams import Provider, Service, Streamed
from bench.suite import Report, Row, progress

TURNS, AT_ONCE = 80, 8
PACE = (10, 10, 100)
FINISH_S = 0.4


def measure_turns(
    services: Sequence[Service],
    provider: Provider,
    relay: Gunicorn,
    measure_yardstick: Callable[[], None],
    report: Report,
    rounds: int,
) -> list[Row]:
    """A row for the relay and for each service, in interleaved rounds after a warm-up."""
    relayed: list[float] = []
    runs: dict[str, list[Streamed]] = {}
    for number in range(rounds + 1):
        if number:
            measure_yardstick()
        progress(f"turns: {f'round {number} of {rounds}' if number else 'warm-up'}")
        paces = [Pace(*PACE, text=text) for text in range(TURNS)]
        cpu_s = provider.stream_through(relay, paces, report, AT_ONCE)
        streamed = {
            one.name: one.stream("turn", paces, report, at_once=AT_ONCE, finish_s=FINISH_S)
            for one in services
        }
        if number:
            relayed.append(cpu_s)
            for name, run in streamed.items():
                runs.setdefault(name, []).append(run)
    rows = [_row("bare relay", relayed, relayed, [0.0], 0)]
    for name, own in runs.items():
        cpu, database = [one.server_cpu_s for one in own], [one.database_cpu_s for one in own]
        rows.append(_row(name, cpu, relayed, database, sum(one.failed for one in own)))
    return rows


def _row(name: str, cpu_s: list[float], relayed_s: list[float], database_s: list[float], failed: int) -> Row:
    ratios = [one / max(base, 1e-9) for one, base in zip(cpu_s, relayed_s, strict=True)]
    cells = {
        "service": name,
        "CPU ms per turn": str(Spread.over([one / TURNS * 1000 for one in cpu_s])),
        "DB CPU ms": f"{Spread.over([one / TURNS * 1000 for one in database_s]).median:.1f}",
        "times the relay": str(Spread.over(ratios)),
        "failed": str(failed),
    }
    return Row(f"a turn on {name}", cells, None, failed)
