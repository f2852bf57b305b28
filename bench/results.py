"""All that a run found out: rows with a verdict each, and every single measurement behind them."""

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from bench.comparison import ComparisonRow
from bench.depth import DepthRow
from bench.memory import MemoryRow
from bench.rounds import Rounds
from bench.statements import StatementsRow


class Row(Protocol):
    """A line of the results."""

    @property
    def met(self) -> bool | None:
        """Whether its target is met; None where there is none."""

    @property
    def title(self) -> str:
        """What was measured, in words."""


@dataclass
class Results:
    """What was measured; empty where a part was left out."""

    comparison: list[ComparisonRow] = field(default_factory=list)
    statements: list[StatementsRow] = field(default_factory=list)
    depth: list[DepthRow] = field(default_factory=list)
    memory: list[MemoryRow] = field(default_factory=list)
    rounds: Rounds = field(default_factory=Rounds)

    @property
    def missed(self) -> list[str]:
        """The targets that were not reached."""
        rows: list[Row] = [*self.comparison, *self.statements, *self.depth, *self.memory]
        return [row.title for row in rows if row.met is False]

    @property
    def failures(self) -> dict[str, dict[str, int]]:
        """Who had failed requests, of which kind, and how many."""
        return self.rounds.failures()

    def as_json(self) -> dict[str, Any]:
        """Everything, for a script that compares runs."""
        return {**asdict(self), "missed": self.missed, "failures": self.failures}
