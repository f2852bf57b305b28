"""Moving files from one storage to another while the service runs, which reads from both.

What is copied is what has a row. A row that is deleted while its file is copied takes the copy along: its remover
deletes the bytes after the commit, so either that finds the copy, or whoever has copied finds no row. A process that is
killed leaves a file in one or both storages, whole in each, and the next one goes on.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..database.bulk import read_in_batches
from ..database.columns import new_id
from ..database.engine import reading
from ..database.session import db
from ..storage import NotStored, Storage
from .models import StoredFile
from .store import name_of

BATCH = 100

log = logging.getLogger(__name__)


class SameStorage(Exception):
    """Both storages have the same files."""


@dataclass
class Moved:
    """What a move has done."""

    copied: int = 0
    copied_bytes: int = 0
    there: int = 0  # had been copied before
    deleted: int = 0  # by their users, meanwhile
    removed: int = 0  # old copies
    lost: list[str] = field(default_factory=list)  # names of files that neither storage has
    broken: list[str] = field(default_factory=list)  # and of those whose content is not what was uploaded


class _File(NamedTuple):
    name: str
    sha256: str
    size_bytes: int


def count_files() -> int:
    """How many files there are to look at."""
    with reading(db.engine).connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(StoredFile)).scalar_one()


def copy_files(*, source: Storage, target: Storage, on_file: Callable[[], Any] = lambda: None) -> Moved:
    """Copy every file to `target` that it does not have yet.

    Raises OSError where a storage fails; what is copied stays.
    """
    moved = Moved()
    for file in _files():
        if target.size_of(file.name) == file.size_bytes:
            moved.there += 1
        else:
            _copy(file, source, target, moved)
        on_file()
    return moved


def remove_copies(*, source: Storage, target: Storage, on_file: Callable[[], Any] = lambda: None) -> Moved:
    """Delete the files in `source` that `target` has, whose copies are read and compared with their hashes first.

    Raises SameStorage, and OSError where a storage fails.
    """
    _require_two(source, target)
    moved = Moved()
    for file in _files():
        if source.size_of(file.name) is not None:
            if _is_whole(file, target):
                source.delete(file.name)
                moved.removed += 1
            elif _has_row(file):
                moved.broken.append(file.name)
        on_file()
    return moved


def _files() -> Iterator[_File]:
    """All that have a row."""
    key = [StoredFile.user_id, StoredFile.id]
    for rows in read_in_batches(key, limit=BATCH, also=[StoredFile.sha256, StoredFile.size_bytes]):
        for user_id, file_id, sha256, size_bytes in rows:
            yield _File(name_of(user_id, file_id), sha256, size_bytes)


def _copy(file: _File, source: Storage, target: Storage, moved: Moved) -> None:
    try:
        is_whole = _put(file, source, target)
    except NotStored:  # also in the middle, where it is deleted just now
        if target.size_of(file.name) == file.size_bytes:  # uploaded there again
            moved.there += 1
        elif _has_row(file):
            moved.lost.append(file.name)
        else:
            moved.deleted += 1
        return
    if not is_whole:
        log.error("the file %s has another content than was uploaded", file.name)
        moved.broken.append(file.name)
    elif _has_row(file):
        moved.copied += 1
        moved.copied_bytes += file.size_bytes
    else:
        target.delete(file.name)
        moved.deleted += 1


def _put(file: _File, source: Storage, target: Storage) -> bool:
    """Copy a file, if it is what was uploaded; whether it is. Raises NotStored."""
    digest = hashlib.sha256()
    with closing(source.open(file.name)) as chunks, target.new_file() as incoming:
        for chunk in chunks:
            digest.update(chunk)
            incoming.file.write(chunk)
        if digest.hexdigest() != file.sha256:
            return False
        target.put(file.name, incoming)
    return True


def _is_whole(file: _File, storage: Storage) -> bool:
    """Whether the storage has the file, with the content that was uploaded."""
    try:
        chunks = storage.open(file.name)
    except NotStored:
        return False
    digest = hashlib.sha256()
    with closing(chunks):
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest() == file.sha256


def _has_row(file: _File) -> bool:
    user_id, file_id = file.name.split("/")
    query = sa.select(StoredFile.id).where(StoredFile.user_id == user_id, StoredFile.id == file_id)
    with reading(db.engine).connect() as connection:
        return connection.execute(query).first() is not None


def _require_two(source: Storage, target: Storage) -> None:
    """Raise SameStorage where both are one place under two names: then the old copy is the only one."""
    name = name_of(new_id(), new_id())
    with target.new_file() as incoming:
        incoming.file.write(b"To see whether two storages are one.")
        target.put(name, incoming)
    try:
        if source.size_of(name) is not None:
            raise SameStorage
    finally:
        target.delete(name)
