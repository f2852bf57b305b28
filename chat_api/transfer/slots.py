"""How many exports and imports run at the same time. Each of them takes a slot for a stream as well, an import when its
file has been received."""

import fcntl
import os
import threading
import time
from pathlib import Path

from ..errors import Unavailable
from ..server.memory import return_freed_memory
from ..server.slots import Slots
from ..web.spool import disk_space_needed

MAX_PER_WORKER = 8
MAX_PER_USER = 2  # in each worker

transfer_slots = Slots(
    MAX_PER_WORKER,
    full="This server is at its limit of concurrent exports and imports; retry.",
    limit_per_user=MAX_PER_USER,
    full_for_user=f"You already have {MAX_PER_USER} exports and imports running here; wait for one to finish.",
    retry_after_s=5,
)

MAX_UPLOADS = (
    16  # files that are being received: a client that is slow with it keeps no others from their imports
)
UPLOAD_WAIT_S = 30.0  # that a file which has been received waits for one of the slots above

upload_slots = Slots(
    MAX_UPLOADS,
    full="This server is receiving as many imports as it can; retry.",
    limit_per_user=MAX_PER_USER,
    full_for_user=f"You are already sending {MAX_PER_USER} imports to this server; wait for one to arrive.",
    retry_after_s=5,
)

one_large_line = (
    threading.Lock()
)  # that is parsed in this process; nobody waits for anything else while holding it


LARGE_WAIT_S = 60.0  # that an import waits for the slot below, again and again where the others have it


class LargeConversationSlot:
    """The one slot of all processes of a machine for a conversation that takes much memory while it is stored.

    It is a lock on a file in DATA_DIR, which ends with its process. Nobody waits for it here: its holder needs what a
    waiting import may hold, such as the lock for long writes.
    """

    def __init__(self, data_dir: str | Path) -> None:
        self._path = Path(data_dir) / "large-conversation-lock"
        self._file: int | None = None
        self._refused_at: float | None = None  # since then it has not been free

    @property
    def is_held(self) -> bool:
        """Whether it is held here."""
        return self._file is not None

    def try_take(self) -> bool:
        """Take the slot if it is free; whether it is held now. Raises Unavailable after LARGE_WAIT_S of refusals."""
        if self._file is not None:
            return True
        with disk_space_needed():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            self._require_patience()
            return False
        except BaseException:
            os.close(file)
            raise
        self._file, self._refused_at = file, None
        return True

    def _require_patience(self) -> None:
        moment = time.monotonic()
        self._refused_at = moment if self._refused_at is None else self._refused_at
        if moment - self._refused_at >= LARGE_WAIT_S:
            raise Unavailable(
                "This server is at its limit of large conversations that are imported at the same time. "
                "Import the file again: what has been stored stays."
            )

    def release(self) -> None:
        """Let others have it; does nothing without it."""
        file, self._file = self._file, None
        if file is not None:
            return_freed_memory()
            os.close(file)
