"""What went wrong, by whom: streams that brought something else than the provider sent, and what is not stored."""

from collections import Counter
from collections.abc import Mapping, Sequence

from bench.streaming.audience import Audience, Turn
from bench.streaming.streams import StreamMeasurement


class Failures:
    """The account of all failures of a run."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, int]] = {}

    def add(self, who: str, kinds: Mapping[str, int]) -> int:
        """Take in some failures; how many they are."""
        for kind, count in kinds.items():
            own = self.kinds.setdefault(who, {})
            own[kind] = own.get(kind, 0) + count
        return sum(kinds.values())

    def of_streams(
        self, who: str, measurement: StreamMeasurement, audience: Audience, turns: Sequence[Turn]
    ) -> int:
        """Take in what failed among the streams of turns, on the way or in the database; how many streams that is.

        The client has compared what it received with what the provider sent; here follows what is stored.
        """
        complaints = audience.complaints(turns)
        self.add(who, measurement.failures)
        self.add(who, Counter(complaints.values()))
        return len(complaints.keys() | set(measurement.failed))
