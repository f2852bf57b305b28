"""How many values a JSON text has, counted before it is parsed: `[{},{},…]` takes 40 times its size when parsed."""

import re

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


def has_more_values(raw: bytes, limit: int) -> bool:
    """Whether a JSON text has more than `limit` values, names not counted; it need not be valid."""
    # What is in strings counts in the first place, because nearly all texts are below the limit even so, and bytes are
    # counted twenty times faster than strings are left out.
    return _count(raw) > limit and _count(_STRING.sub(b"", raw)) > limit


def _count(raw: bytes) -> int:
    """One more than its commas and opening brackets, which is at most one too many for each empty array or object."""
    return 1 + raw.count(b",") + raw.count(b"[") + raw.count(b"{")
