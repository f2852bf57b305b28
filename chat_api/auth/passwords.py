"""Hashing of passwords (Argon2id), and the list of common ones."""

import os
import runpy
import sys
import threading
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from ..server.slots import Slots, while_waiting

Result = TypeVar("Result")
SHORTEST, LONGEST = 8, 128

# Hashing is bound to the CPU and holds no GIL: more at once would take longer each, and 19 MiB more each
_HASHINGS = threading.BoundedSemaphore(os.cpu_count() or 1)

MAX_WAITING = 64  # requests of a worker with a password to hash; each keeps its thread
MAX_WAITING_PER_CLIENT = 32

hashing_slots = Slots(
    MAX_WAITING,
    full="This server is checking as many passwords as it can; retry.",
    limit_per_user=MAX_WAITING_PER_CLIENT,
    full_for_user=f"{MAX_WAITING_PER_CLIENT} passwords of your network are being checked already; retry.",
)

# OWASP Password Storage Cheat Sheet: m = 19 MiB, t = 2, p = 1. About 30 ms, and bounded memory per login
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)


def hash_password(password: str) -> str:
    """Hash with a fresh salt."""
    return _without_blocking(_HASHER.hash, normalized(password))


def verify_password(password: str, password_hash: str | None) -> bool:
    """Whether the password matches. Takes as long for an account that does not exist (None).

    A hash of an earlier release is of the password as it was typed.
    """
    forms = dict.fromkeys((normalized(password), password))
    return any(_matches(form, password_hash or _dummy_hash()) for form in forms) and password_hash is not None


def normalized(password: str) -> str:
    """The password as it is compared, however a keyboard composes its characters (RFC 8265 section 4.2.2)."""
    spaces = (" " if unicodedata.category(character) == "Zs" else character for character in password)
    return unicodedata.normalize("NFC", "".join(spaces))


def _matches(password: str, password_hash: str) -> bool:
    try:
        return _without_blocking(_HASHER.verify, password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(password_hash: str) -> bool:
    """Whether it was hashed with other parameters than the current ones."""
    return _HASHER.check_needs_rehash(password_hash)


def is_common(password: str) -> bool:
    """Whether it is among the 11,000 most used passwords of 8 characters and more (NIST SP 800-63B, 3.1.1.2)."""
    return f"\n{password.lower()}\n" in _common_passwords()


def _without_blocking(function: Callable[..., Result], *arguments: str) -> Result:
    """Call it without blocking other requests: threads keep running, but with greenlets it needs a real thread.

    As many run at once as there are cores. Others wait, and let requests run that need no password: with as many
    logins as there are slots for requests, nobody would be answered.
    """
    with while_waiting(), _HASHINGS:
        return _in_thread(function, *arguments)


def _in_thread(function: Callable[..., Result], *arguments: str) -> Result:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return function(*arguments)
    from gevent import get_hub

    return get_hub().threadpool.apply(function, arguments)


@cache
def _dummy_hash() -> str:
    return _HASHER.hash("the password of nobody")


@cache
def _common_passwords() -> str:
    """One per line. Read from zxcvbn's file of lists, and kept as one text: importing the package would take 10 MiB in
    every worker, a set 1 MiB, and searching the text takes 40 us, once per new password."""
    [folder] = find_spec("zxcvbn").submodule_search_locations  # type: ignore[union-attr, misc]
    lists = runpy.run_path(str(Path(folder) / "frequency_lists.py"))["FREQUENCY_LISTS"]
    return "\n".join(["", *(word for word in lists["passwords"] if len(word) >= SHORTEST), ""])
