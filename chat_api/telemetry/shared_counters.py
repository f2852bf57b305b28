"""Counters in memory that all processes of one server share.

Files would need a disk: a page of a mapped file that can't be stored ends the process (SIGBUS), and a file that can't
grow fails the request that is counted. This memory belongs to the master process, is mapped before its workers are
forked, and is never written to a file.

It consists of slabs of fixed size, so counting takes no lock that a killed or stopped process could keep. Slab 0 is
the master's and has the sums of ended workers; each other slab has one writer, the worker it is reserved for.
"""

import mmap
import threading
import time

KEY_BYTES, NUMBERS = 128, 16
RECORD_BYTES = KEY_BYTES + NUMBERS * 8
RECORDS = 4096  # a slab's first record is none: the first number of slab 0's is the generation
SLAB_BYTES = RECORDS * RECORD_BYTES
_ENDED = 0
READ_TRIES = 50


class Slab:
    """The counters of one process: records of a key and 16 numbers, found by a dictionary of the process's own."""

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self._memory, self._begin = memory, number * SLAB_BYTES
        self._numbers = memoryview(memory).cast("d")
        self._first_numbers: dict[str, int] = {}  # where in `_numbers` the numbers of a key begin
        self._lock = threading.Lock()

    def add(self, key: str, *amounts: tuple[int, float]) -> None:
        """Add to numbers of a key: (index, amount) of each. What does not fit into the slab is not counted."""
        with self._lock:
            first = self._first_numbers.get(key) or self._append(key)
            if first is not None:
                for index, amount in amounts:
                    self._numbers[first + index] += amount

    def records(self) -> dict[str, list[float]]:
        """All keys with their numbers, as the memory has them now."""
        found = {}
        for record in range(1, RECORDS):
            begin = self._begin + record * RECORD_BYTES
            key = self._memory[begin : begin + KEY_BYTES].rstrip(b"\0")
            if not key or not key[0]:  # its first byte is written last
                break
            first = (begin + KEY_BYTES) // 8
            found[key.decode()] = list(self._numbers[first : first + NUMBERS])
        return found

    def clear(self) -> None:
        """Forget all counters."""
        self._memory[self._begin : self._begin + SLAB_BYTES] = bytes(SLAB_BYTES)
        self._first_numbers.clear()

    def _append(self, key: str) -> int | None:
        encoded, record = key.encode(), len(self._first_numbers) + 1
        if len(encoded) > KEY_BYTES or record >= RECORDS:
            return None
        begin = self._begin + record * RECORD_BYTES
        self._memory[begin + 1 : begin + KEY_BYTES] = encoded[1:].ljust(KEY_BYTES - 1, b"\0")
        self._memory[begin] = encoded[0]  # last: until then readers see no record here
        self._first_numbers[key] = first = (begin + KEY_BYTES) // 8
        return first


class SharedCounters:
    """The memory of a server, made by the master before it forks a worker."""

    def __init__(self, workers: int) -> None:
        """`workers` is how many slabs there are for workers, those that are being replaced included."""
        self._memory = mmap.mmap(-1, (workers + 1) * SLAB_BYTES)
        self._generation = memoryview(self._memory).cast("d")[KEY_BYTES // 8 :]
        self._ended = Slab(self._memory, _ENDED)
        self._free = list(range(workers, 0, -1))
        self._count = workers + 1

    def reserve(self) -> int | None:
        """In the master: the number of a slab for a new worker; None where all are in use."""
        return self._free.pop() if self._free else None

    def slab(self, number: int) -> Slab:
        """In a worker: the slab that is reserved for it."""
        return Slab(self._memory, number)

    def release(self, number: int) -> None:
        """In the master: add the counters of a worker that has ended to those of all that have, and free its slab."""
        slab = self.slab(number)
        self._generation[0] += 1  # odd: readers wait
        for key, numbers in slab.records().items():
            self._ended.add(key, *enumerate(numbers))
        slab.clear()
        self._generation[0] += 1
        self._free.append(number)

    def totals(self) -> dict[str, list[float]]:
        """The sums over all workers, also those that have ended.

        Where the master moves counters at this moment it is read again. A master that was stopped then is not waited
        for: better a sum that is wrong until it goes on than none.
        """
        for _ in range(READ_TRIES):
            generation = self._generation[0]
            totals = self._sums()
            if generation % 2 == 0 and generation == self._generation[0]:
                break
            time.sleep(0.001)
        return totals

    def _sums(self) -> dict[str, list[float]]:
        totals: dict[str, list[float]] = {}
        for number in range(self._count):
            for key, numbers in Slab(self._memory, number).records().items():
                known = totals.get(key)
                totals[key] = [a + b for a, b in zip(known, numbers, strict=True)] if known else numbers
        return totals
