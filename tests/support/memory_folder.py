"""A folder in memory, where there is one: what tests write need not outlive them, and a commit waits for no disk."""

import os
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")


def memory_folder(room_bytes: int) -> Path | None:
    """The folder, if it has so much room and programs may be run there; else None."""
    if not _SHARED_MEMORY.is_dir() or not os.access(_SHARED_MEMORY, os.W_OK):
        return None
    room = os.statvfs(_SHARED_MEMORY)
    if room.f_flag & os.ST_NOEXEC or room.f_bavail * room.f_frsize < room_bytes:
        return None
    return _SHARED_MEMORY
