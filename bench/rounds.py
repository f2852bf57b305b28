"""Interleaved rounds: all take turns, so that a slow minute of the machine hits them alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.load import LoadOrder, Measurement, measure
from bench.servers import HOST


@dataclass(frozen=True)
class Contestant:
    """Something that takes a turn in each round. Its requests are made anew each time: tokens run out."""

    name: str
    port: int
    requests: Callable[[], list[str]]
    server_pids: list[int]
    database_pids: list[int]


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of one figure over the rounds."""

    median: float
    least: float
    greatest: float

    @classmethod
    def over(cls, values: Sequence[float]) -> "Spread":
        """The spread of some values."""
        return cls(median(values), min(values), max(values))


@dataclass
class Rounds:
    """What each contestant brought, round by round."""

    measurements: dict[str, list[Measurement]] = field(default_factory=dict)

    def spread(self, name: str, figure: Callable[[Measurement], float]) -> Spread:
        """A figure of one contestant over the rounds."""
        return Spread.over([figure(one) for one in self.measurements[name]])

    def ratio(self, name: str, to: str, figure: Callable[[Measurement], float]) -> Spread:
        """A figure of one contestant divided by the same figure of another in the same round."""
        pairs = zip(self.measurements[name], self.measurements[to], strict=True)
        return Spread.over([figure(one) / max(figure(other), 1e-9) for one, other in pairs])

    def add(self, other: "Rounds") -> None:
        """Take in the measurements of others."""
        self.measurements.update(other.measurements)

    def failures(self) -> dict[str, dict[str, int]]:
        """Contestant -> what went wrong -> how often; empty if nothing did."""
        totals: dict[str, dict[str, int]] = {}
        for name, measurements in self.measurements.items():
            for kind, count in (item for one in measurements for item in one.failures.items()):
                kinds = totals.setdefault(name, {})
                kinds[kind] = kinds.get(kind, 0) + count
        return totals


def play(
    contestants: Sequence[Contestant], rounds: int, seconds: float, progress: Callable[[str], None]
) -> Rounds:
    """Let everybody take a turn of some seconds in each round."""
    results = Rounds()
    for number in range(1, rounds + 1):
        for contestant in contestants:
            progress(f"round {number} of {rounds}: {contestant.name}")
            order = LoadOrder(
                host=HOST,
                port=contestant.port,
                requests=contestant.requests(),
                server_pids=contestant.server_pids,
                database_pids=contestant.database_pids,
                seconds=seconds,
            )
            results.measurements.setdefault(contestant.name, []).append(measure(order))
    return results
