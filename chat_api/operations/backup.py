"""Backups of the whole database: a file that is complete or not there, and what may be restored where."""

import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..database.dialect import is_postgres
from ..database.session import db
from . import postgres_backup, sqlite_backup
from .backup_report import BackupError, Progress, Report
from .service import known_revisions

__all__ = ["BackupError", "Report", "back_up", "restore"]

NOWHERE = "0" * 8
# of an unfinished file, where the process that wrote it can't be looked for: it is of another machine or container, or
# another process has its number now
LEFTOVER_AFTER_S = 24 * 3600.0
_UNFINISHED = re.compile(r"\..+\.([0-9a-f]{8})-([0-9]+)\.chat-api\.part(?:-journal|-wal|-shm)?")


def back_up(path: Path, progress: Progress) -> Report:
    """Write all that is committed at this moment to a new file, and verify it. The service may be running.

    The file gets its name when it is verified and on disk. Raises BackupError, and FileExistsError.
    """
    if path.exists():
        raise FileExistsError(17, "A file of this name exists", str(path))
    write = postgres_backup.write if is_postgres(db.engine) else sqlite_backup.write
    _remove_leftovers(path.parent)
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
    name = f".{path.name[:100]}.{secrets.token_hex(4)}.{_machine()}-{os.getpid()}.chat-api.part"
    unfinished = path.with_name(name)
    try:  # from before it is there: a signal may end the process at any moment
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
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
        for left in (unfinished, *(path.with_name(f"{name}{end}") for end in ("-journal", "-wal", "-shm"))):
            left.unlink(missing_ok=True)
        raise


def _remove_leftovers(folder: Path) -> None:
    """Delete unfinished files of backups that were killed; those of backups that run are not disturbed."""
    for path in folder.glob(".*.chat-api.part*"):
        written_by = _UNFINISHED.fullmatch(path.name)
        if written_by is None:
            continue
        with suppress(OSError):  # another backup has deleted it, or it belongs to somebody else
            is_old = path.lstat().st_mtime < time.time() - LEFTOVER_AFTER_S
            is_here = written_by[1] == _machine() != NOWHERE
            if is_old or (is_here and not Path(f"/proc/{written_by[2]}").exists()):
                path.unlink()


def _machine() -> str:
    """Digits for the machine and, in a container, for its processes: where numbers of processes can be compared."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:  # no Linux, so there is no /proc to look for a process either
        return NOWHERE
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]


def _sync(path: Path) -> None:
    """Have the system write a file or a folder to its disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
