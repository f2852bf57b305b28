"""Backups of the whole database: a file that is complete or not there, and what may be restored where."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..database.dialect import is_postgres
from ..database.session import db
from . import postgres_backup, sqlite_backup
from .backup_report import BackupError, Progress, Report
from .service import known_revisions

__all__ = ["BackupError", "Report", "back_up", "restore"]


def back_up(path: Path, progress: Progress) -> Report:
    """Write all that is committed at this moment to a new file, and verify it. The service may be running.

    The file gets its name when it is verified and on disk. Raises BackupError, and FileExistsError.
    """
    if path.exists():
        raise FileExistsError(17, "A file of this name exists", str(path))
    write = postgres_backup.write if is_postgres(db.engine) else sqlite_backup.write
    with _new_file(path) as unfinished:
        return write(unfinished, progress)


def restore(path: Path, progress: Progress, *, overwrite: bool) -> Report:
    """Fill the database with a backup, in one transaction. The service must not be running.

    Raises BackupError where the file is no sound backup for this database, or the database is not empty and may not
    be overwritten.
    """
    read = postgres_backup.read if is_postgres(db.engine) else sqlite_backup.read
    return read(path, progress, overwrite=overwrite, known_revisions=known_revisions())


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A file beside the path; it becomes the path when the block has succeeded, unless that exists by then."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        _sync(unfinished)
        try:
            os.link(unfinished, path)  # unlike renaming it never replaces a file
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if path.exists():
                raise FileExistsError(17, "A file of this name exists", str(path)) from None
            unfinished.rename(path)
        with suppress(FileNotFoundError):
            unfinished.unlink()
        _sync(path.parent)
    except BaseException:
        for left in (unfinished, *(Path(f"{name}{end}") for end in ("-journal", "-wal", "-shm"))):
            left.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    """Have the system write a file or a folder to its disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
