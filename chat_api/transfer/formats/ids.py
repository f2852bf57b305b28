"""Ids for what has none of its own yet: always the same for the same source, so that it is imported once."""

import hashlib
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def id_at(moment: datetime, *names: str) -> str:
    """A UUID in the shape of version 7 (RFC 9562 section 5.7), always the same for this time and these names."""
    number = int.from_bytes(hashlib.sha256("\x1f".join(names).encode("utf-8", "surrogatepass")).digest()[:10])
    milliseconds = (moment - EPOCH) // timedelta(milliseconds=1)
    value = milliseconds << 80 | 0x7 << 76 | (number >> 62 & 0xFFF) << 64 | 0b10 << 62 | number & (2**62 - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
