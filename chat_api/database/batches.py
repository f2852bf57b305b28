"""Short writes to SQLite that wait for each other, done by one of their threads for all, in one transaction.

Passing a transaction from thread to thread (`group_commit.py`) wakes each of them twice, and sets a savepoint for each.
A write that is described beforehand, as a function that any thread may run, needs neither: the first one that comes
does what has come until then, while the others sleep until it is on disk.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from ..errors import Unavailable
from .group_commit import LONGEST_S, MOST_MEMBERS

LONGEST_GAP_S = 0.002  # between one write and the next, where more of them are expected

Result = TypeVar("Result")
Block = Callable[[], AbstractContextManager[None]]


class _Write:
    """What one thread wants to be written, and what came of it."""

    __slots__ = ("error", "is_over", "result", "run", "woken")

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run = run
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_over = False
        self.woken = threading.Lock()  # its thread waits for this, unless it leads
        self.woken.acquire()


class Batches:
    """The writes of all threads of a process, of which one leads at a time.

    `begin` gives a transaction that is on disk at its end, as `GroupCommit.transaction` is; `savepoint`, inside of it,
    undoes what its block has written where that raises.
    """

    def __init__(self, *, begin: Block, savepoint: Block) -> None:
        self._begin, self._savepoint = begin, savepoint
        self._lock = threading.Lock()
        self._waiting: deque[_Write] = deque()
        self._is_led = False
        self._expected = 1  # how many will come at the same time, going by the last ones
        self._is_gathering = False
        self._all_are_there = threading.Lock()  # the leader waits for this
        self._all_are_there.acquire()

    def run(self, write: Callable[[], Result]) -> Result:
        """Run a write in a transaction, and return its result once that is on disk.

        It is undone where it raises; then it may run a second time, as may those that were done with it. Raises what
        it raises, and what the transaction does.
        """
        own = _Write(write)
        with self._lock:
            self._waiting.append(own)
            leads, self._is_led = not self._is_led, True
            if self._is_gathering and len(self._waiting) >= self._expected:
                self._is_gathering = False
                self._all_are_there.release()
        if not leads:
            own.woken.acquire()
        if not own.is_over:
            self._lead()
        if own.error is not None:
            raise own.error
        result: Result = own.result
        return result

    def _lead(self) -> None:
        """Do what is waiting, this thread's own first; then the next one leads."""
        batch: list[_Write] = []
        error: BaseException | None = Unavailable()  # where this thread is ended
        try:
            self._gather()
            error = self._do(batch)
        finally:
            with self._lock:
                if not batch:  # no transaction could be begun, for which all have waited
                    batch += self._waiting
                    self._waiting.clear()
                self._expected = min(len(batch) + len(self._waiting), MOST_MEMBERS)
                successor = self._waiting[0] if self._waiting else None
                self._is_led = successor is not None
            if successor is not None:
                successor.woken.release()
            for each in batch:
                each.error = each.error or error
                each.is_over = True
                each.woken.release()

    def _gather(self) -> None:
        """Wait for as many as came the last time: their threads have work to do before, in turns with this one.

        A thread that is alone waits for nobody.
        """
        ends_at = time.monotonic() + LONGEST_S
        while time.monotonic() < ends_at:
            with self._lock:
                count = len(self._waiting)
                if count >= self._expected:
                    return
                self._is_gathering = True
            is_complete = self._all_are_there.acquire(timeout=LONGEST_GAP_S)
            with self._lock:
                if not is_complete and not self._is_gathering:  # at this very moment
                    is_complete = self._all_are_there.acquire()
                self._is_gathering = False
                if is_complete or len(self._waiting) == count:
                    return

    def _do(self, batch: list[_Write]) -> BaseException | None:
        """Do what is waiting, and add it to the batch; why nothing of it is stored, None where it is."""
        is_refused = False
        try:
            with self._begin():
                batch += self._take()
                try:
                    for each in batch:
                        each.result = each.run()
                except Unavailable:
                    raise
                except Exception:
                    is_refused = True
                    raise
        except Exception as error:
            return self._do_apart(batch) if is_refused else error
        return None

    def _do_apart(self, batch: list[_Write]) -> BaseException | None:
        """Do what is in the batch once more, each for itself: nobody's failure undoes what others have written."""
        try:
            with self._begin():
                for each in batch:
                    try:
                        with self._savepoint():
                            each.result = each.run()
                    except Unavailable:
                        raise
                    except Exception as error:
                        each.error = error
        except Exception as error:
            return error
        return None

    def _take(self) -> list[_Write]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_MEMBERS))]
