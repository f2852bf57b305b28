"""What a process remembers for a while: a bounded number of entries, of which the least used make room."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The entries that were used last, of a process."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._entries: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """The value, None where there is none any more."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()

    def put(self, key: Key, value: Value) -> None:
        """Keep a value; the one that was not used for longest makes room."""
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            while len(self._entries) > self._most or self._is_over(self._entries.values()):
                self._entries.popitem(last=False)

    def _is_over(self, values: Iterable[Value]) -> bool:
        """Whether the values take too much together."""
        return False
