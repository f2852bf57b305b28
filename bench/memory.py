"""The memory of one idle worker."""

from dataclasses import dataclass

from bench.processes import pss_mib
from bench.setting import Setting

LIMIT_MIB = 80.0


@dataclass(frozen=True)
class MemoryRow:
    """What a worker holds that has started, has answered the few requests of the preparation, and waits."""

    database: str
    pss_mib: float

    @property
    def met(self) -> bool:
        """Whether it is no more than it may be."""
        return self.pss_mib <= LIMIT_MIB

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"memory of a worker on {self.database}"


def measure_memory(setting: Setting) -> list[MemoryRow]:
    """The worker's row; nothing where the system does not tell."""
    size = pss_mib(setting.service.worker)
    return [] if size is None else [MemoryRow(setting.database.name, size)]
