"""Limits of an outgoing call: how long it may take and how much it may return."""

from dataclasses import dataclass

RESPONSE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one call. Times are in seconds, sizes in bytes."""

    connect_s: float = 5  # DNS, TCP and TLS together
    first_byte_s: float = 120  # from the request to the first byte of the body: large prompts take long
    idle_s: float = 60
    total_s: float = 1800
    line_bytes: int = 1024 * 1024  # of a stream; more where a whole reply fits into one
    response_bytes: int = RESPONSE_BYTES  # everything read of one response
    reply_bytes: int = 4 * 1024 * 1024  # text, reasoning and tool calls in UTF-8
    file_bytes: int = 32 * 1024 * 1024  # a picture or recording in the reply
