"""Backup and restore of SQLite, by its online backup interface.

All pages are copied inside one read transaction. Writers go on in the WAL, and unlike a backup without that
transaction it does not begin again at each of their commits, so it ends however much is written.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from ..database.session import db
from .backup_report import BackupError, Progress, Report, require_empty, require_known, require_same

PAGES = 1000  # between two reports of progress
_MAGIC = b"SQLite format 3\0"


def write(path: Path, progress: Progress) -> Report:
    """Copy the database into an empty file, and verify the copy."""
    with closing(_open_own()) as source, closing(sqlite3.connect(path, isolation_level=None)) as copy:
        with _snapshot(source):
            copy.execute("PRAGMA synchronous = OFF")  # the whole file is synced at its end
            source.backup(copy, pages=PAGES, progress=_reported(progress))
            expected = _rows(source)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a WAL beside it
        _require_sound(copy)
        require_same(expected, found := _rows(copy))
        revision = _revision(copy)
        if revision is None:
            raise BackupError("Verification failed: the backup has no schema.")
        return Report(revision, found)


def read(path: Path, progress: Progress, *, overwrite: bool, known_revisions: Sequence[str]) -> Report:
    """Replace the database's content by the backup's, in one transaction."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise BackupError("The file is not a backup of SQLite.")
    with (
        closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        ) as backup,
        closing(_open_own()) as database,
    ):
        _require_sound(backup)
        revision = require_known(_revision(backup), known_revisions)
        require_empty(_rows(database), overwrite=overwrite)
        expected = _rows(backup)
        backup.backup(database, pages=PAGES, progress=_reported(progress))
        require_same(expected, _rows(database))
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Report(revision, expected)


def _open_own() -> sqlite3.Connection:
    """A connection to the service's database, with its set-up, outside the engine's pool."""
    pooled = db.engine.raw_connection()
    driver = pooled.driver_connection
    pooled.detach()
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - nothing else is SQLite's  # nosec
    return driver


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let the connection see what is committed now, during the whole block."""
    connection.execute("BEGIN")
    connection.execute(
        "SELECT count(*) FROM sqlite_schema"
    ).fetchone()  # the transaction begins with its first read
    yield
    connection.execute("ROLLBACK")


def _require_sound(connection: sqlite3.Connection) -> None:
    """Raise BackupError where the file is damaged."""
    try:
        [finding] = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        finding = str(error)
    if finding != "ok":
        raise BackupError(f"The backup is damaged: {finding}.")


def _revision(connection: sqlite3.Connection) -> str | None:
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'alembic_version'").fetchone():
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row[0] if row else None


def _rows(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows each table of ours has; the full-text index has tables of its own."""
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~' "
        "AND name NOT LIKE 'message~_index%' ESCAPE '~' AND name <> 'alembic_version' ORDER BY name"
    ).fetchall()
    counts = {}
    for (name,) in names:
        quoted = name.replace('"', '""')
        [counts[name]] = connection.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()  # noqa: S608
    return counts


def _reported(progress: Progress) -> Callable[[int, int, int], None]:
    return lambda status, remaining, total: progress(total - remaining, total)
