"""The header that makes a file of bare samples."""

import re
import struct

RATE = 24_000  # samples a second, as OpenAI and Google send them: 16 bits, one channel
MAX_RATE = 192_000
_RATE = re.compile(r"rate=(\d{4,6})(?!\d)")


def wav_header(size_bytes: int, media_type: str = "") -> bytes:
    """The 44 bytes before so many bytes of samples; a rate in the media type counts, as in audio/L16;rate=16000."""
    named = _RATE.search(media_type)
    rate = min(int(named[1]), MAX_RATE) if named else RATE
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + size_bytes,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        rate,
        2 * rate,
        2,
        16,
        b"data",
        size_bytes,
    )
