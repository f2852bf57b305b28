"""How many values a JSON text has, counted before it is parsed: `[{},{},…]` takes 40 times its size when parsed."""

import re
from functools import lru_cache

_SEPARATORS = b",[{"  # one more value follows each of them, except the bracket of an empty array or object


def has_more_values(raw: bytes, limit: int) -> bool:
    """Whether a JSON text has more than `limit` values, names not counted; it need not be valid."""
    # What is in strings counts in the first place, because nearly all texts are below the limit even so, and that is
    # twenty times faster than to leave strings out.
    if 1 + sum(raw.count(separator) for separator in _SEPARATORS) <= limit:
        return False
    return _more_than(limit).match(raw) is not None


@lru_cache(maxsize=8)
def _more_than(limit: int) -> re.Pattern[bytes]:
    """What matches so many separators outside of strings: in one pass, and without memory for what it has passed."""
    return re.compile(rb'(?:(?:[^",\[{]++|"(?:[^"\\]++|\\.)*+"?)*+[,\[{]){%d}+' % limit, re.DOTALL)
