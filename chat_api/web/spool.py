"""Temporary files for what is too large for memory: in DATA_DIR, as /tmp is memory on many machines.

They have no name (O_TMPFILE, or unlinked at once where the file system has none), so a process that is killed leaves
nothing, except in the moment between the two; `remove_leftovers` is for that.
"""

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from flask import current_app

from ..errors import Unavailable

log = logging.getLogger(__name__)

FOLDER = "spool"
LEFTOVER_AFTER_S = 60.0  # a file that is used has a name for less than a millisecond


def open_spool_file() -> IO[bytes]:
    """An empty file, which is gone when it is closed. Raises Unavailable (503) where the disk has no room for it."""
    with disk_space_needed():
        return tempfile.TemporaryFile(dir=_folder())


@contextmanager
def spool_file() -> Iterator[IO[bytes]]:
    """The same, to be closed at the end of the block."""
    file = open_spool_file()
    try:
        yield file
    finally:
        with suppress(OSError):  # a failed write has been reported already
            file.close()


@contextmanager
def disk_space_needed() -> Iterator[None]:
    """For whatever writes to a spool file: raises Unavailable (503) where the disk is full, or can't be used."""
    try:
        yield
    except OSError as error:
        log.warning("no disk space for a temporary file in DATA_DIR: %s", error.strerror or error)
        raise Unavailable("The server has no disk space for the file; retry later.") from error


def remove_leftovers(data_dir: str | Path) -> None:
    """Delete what killed processes left; others that use the same folder are not disturbed."""
    with suppress(OSError):
        for path in (Path(data_dir) / FOLDER).iterdir():
            if path.lstat().st_mtime < time.time() - LEFTOVER_AFTER_S:
                path.unlink()


def _folder() -> Path:
    """The folder, made where it is missing; nobody else may read what users import."""
    data_dir = Path(current_app.config["DATA_DIR"])
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = data_dir / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
