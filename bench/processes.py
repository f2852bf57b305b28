"""What the operating system knows about processes: CPU time used, memory held, and the core they run on."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

ON_LINUX = sys.platform.startswith("linux")

PINNING = ON_LINUX and len(os.sched_getaffinity(0)) >= 2
"""Whether server and load generator can be kept on cores of their own."""

SERVER_CORE, LOAD_CORE = sorted(os.sched_getaffinity(0))[:2] if PINNING else (0, 0)


def limitations() -> list[str]:
    """What this machine cannot do, in sentences for the reader of the results."""
    if not ON_LINUX:
        return [
            "Not Linux: processes are not kept on cores of their own, CPU times come from `ps` in hundredths "
            "of a second, and memory is not measured. Take the ratios as rough."
        ]
    if not PINNING:
        return ["One core only: server, database and load generator share it. CPU ratios hold, rates do not."]
    return []


def pin(pids: Iterable[int], core: int) -> None:
    """Keep the processes, their threads and whatever they start later on one core, where that is possible."""
    if not PINNING:
        return
    for pid in pids:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), {core})
        except (FileNotFoundError, ProcessLookupError):
            continue


def family(root: int) -> list[int]:
    """A process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents().items():
        children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_seconds(roots: Iterable[int]) -> dict[int, float]:
    """User plus system CPU time of each process in the families of `roots`, ended threads included."""
    pids = [pid for root in roots for pid in family(root)]
    return _cpu_by_clock(pids) if ON_LINUX else _cpu_by_ps(pids)


def cpu_between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Seconds used between two readings of `cpu_seconds`; what ended between them counts nothing."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def pss_mib(pid: int) -> float | None:
    """Proportional set size: the memory of a process with shared pages divided among their users."""
    if not ON_LINUX:
        return None
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return None


def _parents() -> dict[int, int]:
    """Every process with its parent."""
    if not ON_LINUX:
        return {pid: parent for pid, parent, _time in _ps()}
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            # The command's name stands in brackets and may hold anything; what follows is regular.
            parents[int(name)] = int(stat.rpartition(")")[2].split()[1])
    return parents


def _cpu_by_clock(pids: Iterable[int]) -> dict[int, float]:
    """CPU time by the kernel's clock of another process: nanoseconds, where /proc/<pid>/stat has 10 ms."""
    seconds = {}
    for pid in pids:
        try:
            seconds[pid] = time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) computes
        except OSError:
            continue  # it has ended meanwhile
    return seconds


def _cpu_by_ps(pids: Iterable[int]) -> dict[int, float]:
    """CPU time by `ps`, for systems without that clock."""
    wanted = set(pids)
    return {pid: seconds for pid, _parent, seconds in _ps() if pid in wanted}


def _ps() -> list[tuple[int, int, float]]:
    """Process, parent and CPU seconds of everything that runs, from `ps`."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "time="], check=True, capture_output=True, text=True
    )
    rows = []
    for line in listing.stdout.splitlines():
        pid, parent, cpu_time = line.split()
        seconds = 0.0
        for part in cpu_time.replace("-", ":").split(":"):
            seconds = seconds * 60 + float(part)
        rows.append((int(pid), int(parent), seconds))
    return rows
