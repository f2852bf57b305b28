"""What a worker does with memory that it has freed."""

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h of glibc
LARGE_BYTES = 1024 * 1024
ARENAS = 2


def return_large_blocks() -> bool:
    """Have the C library give large blocks back to the system as soon as they are freed; whether it can.

    glibc raises its limit for that to the size of the largest block it has seen freed, up to 32 MiB, and keeps smaller
    ones for each thread: after eight logins at once, each of which takes 19 MiB to hash the password, a worker kept
    160 MiB for ever, and 400 MiB after a dozen bodies of 8 MiB. Setting the limit stops its raising.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
    except (OSError, AttributeError):  # another C library
        return False


def share_arenas() -> bool:
    """Have all threads take memory from a few arenas of the C library; whether it can. Before the threads start.

    glibc makes eight for each core, and each keeps what its threads have freed: twenty uploads of 100 MB at once took
    52 MiB, and 30 with two arenas. Python's lock lets hardly two threads ask for memory at the same time.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS))
    except (OSError, AttributeError):  # another C library
        return False


def return_freed_memory() -> None:
    """Give what is free in all threads' shares of the C library's memory back to the system. Takes milliseconds.

    For what has taken tens of megabytes in small blocks: each thread that did so once would keep them.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
