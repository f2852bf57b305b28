"""Ids for what has none of its own yet: always the same for the same source, so that it is imported once."""

import hashlib
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class IdsBelow:
    """The ids of what one source has, each that of `id_at` for the source's name and its own.

    The source's name is hashed once: it may be as long as the file, and there may be very many ids.
    """

    def __init__(self, source: str) -> None:
        self._hash = hashlib.sha256(_bytes(source))

    def at(self, moment: datetime, *names: str) -> str:
        """The id for this time and these names."""
        digest = self._hash.copy()
        for name in names:
            digest.update(b"\x1f" + _bytes(name))
        return _uuid(moment, int.from_bytes(digest.digest()[:10]))


def id_at(moment: datetime, source: str, *names: str) -> str:
    """A UUID in the shape of version 7 (RFC 9562 section 5.7), always the same for this time and these names."""
    return IdsBelow(source).at(moment, *names)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _uuid(moment: datetime, number: int) -> str:
    milliseconds = (moment - EPOCH) // timedelta(milliseconds=1)
    value = milliseconds << 80 | 0x7 << 76 | (number >> 62 & 0xFFF) << 64 | 0b10 << 62 | number & (2**62 - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
