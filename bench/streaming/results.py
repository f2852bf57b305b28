"""All that a run found out about streaming: rows with a verdict each."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bench.results import Row
from bench.streaming.cap import CapRow
from bench.streaming.chunks import ChunksRow
from bench.streaming.failures import Failures
from bench.streaming.first_token import FirstTokenRow
from bench.streaming.floor import FloorRow
from bench.streaming.held import HeldRow, PlainGetRow
from bench.streaming.yardstick import YardstickRow


@dataclass
class StreamingResults:
    """What was measured; empty where a part was left out."""

    yardstick: list[YardstickRow] = field(default_factory=list)
    floor: list[FloorRow] = field(default_factory=list)
    first_token: list[FirstTokenRow] = field(default_factory=list)
    chunks: list[ChunksRow] = field(default_factory=list)
    held: list[HeldRow] = field(default_factory=list)
    plain_gets: list[PlainGetRow] = field(default_factory=list)
    cap: list[CapRow] = field(default_factory=list)
    failures: Failures = field(default_factory=Failures)

    def judge_by(self, yardstick: YardstickRow) -> None:
        """Have what is measured against times of the reference machine judged at that machine's speed."""
        self.yardstick = [yardstick]
        self._set_slowness(yardstick.slowness)

    @property
    def missed_as_measured(self) -> list[str]:
        """The targets that were reached at the reference's speed only."""
        unscaled = replace(self)
        unscaled._set_slowness(1.0)
        return [title for title in unscaled.missed if title not in self.missed]

    def _set_slowness(self, slowness: float) -> None:
        self.first_token = [replace(row, slowness=slowness) for row in self.first_token]
        self.chunks = [replace(row, slowness=slowness) for row in self.chunks]
        self.plain_gets = [replace(row, slowness=slowness) for row in self.plain_gets]

    @property
    def rows(self) -> list[Row]:
        """All of them."""
        return [
            *self.yardstick,
            *self.floor,
            *self.first_token,
            *self.chunks,
            *self.held,
            *self.plain_gets,
            *self.cap,
        ]

    @property
    def missed(self) -> list[str]:
        """The targets that were not reached."""
        return [row.title for row in self.rows if row.met is False]

    def as_json(self) -> dict[str, Any]:
        """Everything, for a script that compares runs."""
        parts = {name: rows for name, rows in asdict(self).items() if name != "failures"}
        return {**parts, "missed": self.missed, "failures": self.failures.kinds}
