"""What one file may cost: CPU time for reading and time for storing, by its size, and errors."""

import time

from .import_report import ImportReport
from .limits import (
    MAX_FAULTS,
    READING_S,
    READING_S_PER_MIB,
    STORING_S,
    STORING_S_PER_MIB,
    TOO_MANY_ERRORS,
    TOO_SLOW,
    ReadingEnded,
)
from .records import END, Fault, Pause, Record, Records

_MIB = 1024 * 1024


class ImportBudget:
    """Counts what has been spent on a file.

    Of reading it is the thread's CPU time, so neither a busy machine nor a slow disk ends an import. Storing has far
    more time than it needs, as that depends on the database; the limit ends what keeps a slot and SQLite's lock busy.
    """

    def __init__(self, size_bytes: int) -> None:
        self._limit_s = READING_S + READING_S_PER_MIB * size_bytes / _MIB
        self._spent_s = self._began_s = 0.0
        self._storing_limit_s = STORING_S + STORING_S_PER_MIB * size_bytes / _MIB
        self._stored_s = 0.0

    def check_time(self) -> None:
        """Raise ReadingEnded where all of the time is spent; to be called now and then while a record is read."""
        if self._spent_s + time.thread_time() - self._began_s > self._limit_s:
            detail = (
                f"Reading the file took more than {self._limit_s:.0f} s, which is the limit for its size."
            )
            raise ReadingEnded(TOO_SLOW, detail)

    def spend_on(self, records: Records, report: ImportReport, *, whole: bool) -> Records:
        """The records, up to where a limit ends them; the last one is then a fault, and `report` says why.

        With `whole` each conversation is read at once, so the last one is complete where reading ends, and a file
        without any is no export: ReadingEnded is raised.
        """
        number, faults, has_any = 0, 0, False
        while True:
            try:
                if max(faults, report.error_count) >= MAX_FAULTS:
                    detail = f"There were {MAX_FAULTS} errors; what comes after them was not read."
                    raise ReadingEnded(TOO_MANY_ERRORS, detail)
                self._check_storing_time()
                record = self._next(records)
            except ReadingEnded as error:
                if whole and not has_any:
                    raise
                report.end_early(error.reason, error.detail)
                yield Fault(number + 1, error.detail, END if whole else None)
                return
            if record is None:
                return
            if isinstance(record, Pause):
                yield record
                continue
            number = record.number
            faults += isinstance(record, Fault)
            has_any = has_any or isinstance(record, Record)
            began = time.monotonic()
            yield record  # which is stored, or kept for its batch, before the next one is read
            self._stored_s += time.monotonic() - began

    def _check_storing_time(self) -> None:
        if self._stored_s > self._storing_limit_s:
            limit = f"{self._storing_limit_s:.0f} s, which is the limit for its size"
            detail = f"Storing the file took more than {limit}; send it again to go on."
            raise ReadingEnded(TOO_SLOW, detail)

    def _next(self, records: Records) -> Record | Fault | Pause | None:
        self._began_s = time.thread_time()
        try:
            return next(records, None)
        finally:
            ended_s = time.thread_time()
            self._spent_s += ended_s - self._began_s
            self._began_s = ended_s
