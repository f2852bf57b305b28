"""What the operating system knows about processes: CPU time used, memory held, and the core they run on."""

import os
import sys
import time
from collections.abc import Iterable, Mapping

import psutil

ON_LINUX = sys.platform.startswith("linux")

_CORES = sorted(os.sched_getaffinity(0)) if ON_LINUX else []
PINNING = len(_CORES) >= 2
"""Whether server and load generator can be kept on cores of their own."""

SERVER_CORE, LOAD_CORE = _CORES[:2] if PINNING else (0, 0)


def limitations() -> list[str]:
    """What this machine cannot do, in sentences for the reader of the results."""
    if not ON_LINUX:
        return [
            "Not Linux: processes are not kept on cores of their own, CPU times are coarse, and memory is not "
            "measured. Take the ratios as rough."
        ]
    if not PINNING:
        return ["One core only: server, database and load generator share it. CPU ratios hold, rates do not."]
    return []


def pin(pids: Iterable[int], *cores: int) -> None:
    """Keep the processes, their threads and whatever they start later on these cores, where that is possible."""
    for pid in pids if PINNING else ():
        try:
            for thread in psutil.Process(pid).threads():
                os.sched_setaffinity(thread.id, cores)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue


def family(root: int) -> list[int]:
    """A process and all its living descendants."""
    return [root, *(child.pid for child in psutil.Process(root).children(recursive=True))]


def cpu_seconds(roots: Iterable[int]) -> dict[int, float]:
    """User plus system CPU time of each process in the families of `roots`, ended threads included."""
    seconds = {}
    for pid in [pid for root in roots for pid in family(root)]:
        try:
            seconds[pid] = _cpu_clock(pid)
        except (OSError, psutil.NoSuchProcess):
            continue  # it has ended
    return seconds


def cpu_between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Seconds used between two readings of `cpu_seconds`; what ended between them is not counted."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def pss_mib(pid: int) -> float | None:
    """Proportional set size: the memory of a process with shared pages divided among their users."""
    return psutil.Process(pid).memory_full_info().pss / 2**20 if ON_LINUX else None


def _cpu_clock(pid: int) -> float:
    if not ON_LINUX:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    # The kernel's clock of another process, as clock_getcpuclockid(3) computes it: /proc/<pid>/stat counts in 10 ms.
    return time.clock_gettime((~pid << 3) | 2)
