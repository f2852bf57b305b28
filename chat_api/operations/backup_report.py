"""What both kinds of backup share: their report, their errors, and the checks before a restore."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Progress = Callable[[int, int], None]  # how much is done, of how much


class BackupError(Exception):
    """A backup can't be made or restored; the message is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a backup holds: its schema, and the rows of each table."""

    revision: str
    rows: Mapping[str, int]


def require_known(revision: str | None, known_revisions: Sequence[str]) -> str:
    """The revision of a backup. Raises BackupError where this version does not know it."""
    if revision is None:
        raise BackupError("The backup has no schema.")
    if revision not in known_revisions:
        raise BackupError(
            f"This version of chat-api does not know the backup's schema ({revision}): "
            "install the version that made it."
        )
    return revision


def require_same(expected: Mapping[str, int], found: Mapping[str, int]) -> None:
    """Raise BackupError where tables have other numbers of rows."""
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise BackupError(
                f"Verification failed: table {name} has {found.get(name, 0)} rows, not {expected.get(name, 0)}."
            )


def require_empty(rows: Mapping[str, int], *, overwrite: bool) -> None:
    """Raise BackupError where a database has rows that may not be replaced."""
    filled = [name for name, count in rows.items() if count]
    if filled and not overwrite:
        raise BackupError(
            f"The database is not empty ({filled[0]} has rows); --overwrite replaces all that is in it."
        )
