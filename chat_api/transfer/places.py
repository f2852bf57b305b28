"""How many exports and imports run at the same time. Each keeps a thread of its own, as a stream does."""

import threading
from collections import Counter
from collections.abc import Callable

from ..completions.registry import runs
from ..errors import TooManyRequests, Unavailable

MAX_PER_WORKER = 8
MAX_PER_USER = 2  # in each worker
RETRY_AFTER_S = 5

_lock = threading.Lock()
_running: Counter[str] = Counter()  # by user


def take_place(user_id: str) -> Callable[[], None]:
    """Have a place for an export or an import. Returns what gives it back, which may be called twice.

    Raises Unavailable where this process has none, TooManyRequests where this user has too many.
    """
    with _lock:
        if _running.total() >= MAX_PER_WORKER:
            raise Unavailable("This server exports and imports as much as it can; try again.")
        if _running[user_id] >= MAX_PER_USER:
            told = f"{MAX_PER_USER} of your exports and imports are running here; wait for one."
            raise TooManyRequests(told, retry_after_s=RETRY_AFTER_S)
        _running[user_id] += 1
    given_back = threading.Event()

    def give_back() -> None:
        with _lock:
            if given_back.is_set():
                return
            given_back.set()
            _running[user_id] -= 1
            if not _running[user_id]:
                del _running[user_id]

    try:
        leave_stream = runs().place_for_client(user_id)
    except BaseException:
        give_back()
        raise

    def leave() -> None:
        leave_stream()
        give_back()

    return leave
