"""What limits the state of a reply, see `events.ProviderState`."""

from typing import Any

import orjson

MAX_STATE_BYTES = 256 * 1024  # as JSON, of one reply
MAX_STATE_ITEMS = 1000  # blocks, or entries of a list, in one reply


class StateTooLarge(Exception):
    """There is more state than is kept of a reply."""


class StateBudget:
    """Counts the bytes of a state while it arrives, so that hardly more of it is in memory than may be kept."""

    __slots__ = ("remaining",)

    def __init__(self) -> None:
        self.remaining = MAX_STATE_BYTES

    def take(self, value: Any) -> bool:
        """Count a value; whether it may be kept."""
        if self.remaining >= 0:
            self.remaining -= len(value) if isinstance(value, str) else json_size(value)
        return self.remaining >= 0

    def exceed(self) -> None:
        """Note that there is more than may be kept."""
        self.remaining = -1

    def require(self, state: dict[str, Any]) -> None:
        """Raise StateTooLarge where there was too much, or the whole state is too large."""
        if self.remaining < 0 or json_size(state) > MAX_STATE_BYTES:
            raise StateTooLarge


def json_size(value: Any) -> int:
    """The size of a value as JSON; more than any state may have where it can't be written."""
    try:
        return len(orjson.dumps(value))
    except TypeError:  # nested too deeply, or a number of more than 64 bits
        return MAX_STATE_BYTES + 1
