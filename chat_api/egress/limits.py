"""How long a call may take and how much may come back."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one call. Times are in seconds, sizes in bytes."""

    connect_s: float = 5  # name, TCP and TLS together
    first_byte_s: float = 120  # from the request to the first byte of the body: a large prompt takes its time
    idle_s: float = 60
    total_s: float = 1800
    line_bytes: int = 1024 * 1024
    run_bytes: int = 64 * 1024 * 1024  # all that is read of one answer
    answer_bytes: int = 4 * 1024 * 1024  # text, reasoning and tool calls in UTF-8
