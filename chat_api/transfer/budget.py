"""What reading one file may cost: CPU time, by the size of the file, and errors."""

import time

from .import_report import ImportReport
from .limits import (
    MAX_FAULTS,
    READING_S,
    READING_S_PER_MIB,
    TOO_MANY_ERRORS,
    TOO_SLOW,
    ReadingEnded,
)
from .records import END, Fault, Pause, Record, Records

_MIB = 1024 * 1024


class ReadingBudget:
    """Counts what has been spent on a file. Only reading counts: what storing costs depends on the database.

    It is the thread's CPU time, so neither a busy machine nor a slow disk ends an import.
    """

    def __init__(self, size_bytes: int) -> None:
        self._limit_s = READING_S + READING_S_PER_MIB * size_bytes / _MIB
        self._spent_s = self._began_s = 0.0

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
            yield record

    def _next(self, records: Records) -> Record | Fault | Pause | None:
        self._began_s = time.thread_time()
        try:
            return next(records, None)
        finally:
            self._spent_s += time.thread_time() - self._began_s
            self._began_s = time.thread_time()
