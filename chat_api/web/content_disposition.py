"""The header Content-Disposition for file names of any characters (RFC 6266, RFC 8187)."""

import re
import unicodedata
from collections.abc import Callable
from urllib.parse import quote

ATTR_CHARS = "!#$&+-.^_`|~"  # besides letters and digits (RFC 8187 section 3.2.1)
# what a quoted string can't have, or what browsers take for something else: quotes, backslashes, percent signs, and
# separators of paths (RFC 6266, section 4.3 and appendix D)
_UNSAFE = re.compile(r'["\\/%:*?<>|]')
UNNAMED = "file"
# proxies have 4 KiB for all headers of a response; names of 255 letters of any script fit, of as many emoji not
MAX_PLAIN = 255
MAX_ENCODED = 2400
MAX_ENDING = 16


def content_disposition(disposition: str, file_name: str) -> str:
    """The value of the header: the name in ASCII, and where that is not all of it the real one."""
    name = "".join("_" if _is_unprintable(each) else each for each in file_name).strip() or UNNAMED
    plain = _plain(name)
    if plain == name and len(plain) <= MAX_PLAIN:
        return f'{disposition}; filename="{plain}"'
    plain = _cut(plain, MAX_PLAIN, len)
    encoded = _encoded(_cut(name, MAX_ENCODED, lambda text: len(_encoded(text))))
    return f"{disposition}; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def _plain(name: str) -> str:
    """The name in ASCII: é as e, and _ for what has no such letter."""
    decomposed = unicodedata.normalize("NFKD", name)
    letters = "".join(each for each in decomposed if not unicodedata.combining(each))
    return _UNSAFE.sub("_", letters.encode("ascii", "replace").decode().replace("?", "_"))


def _encoded(name: str) -> str:
    return quote(name.encode("utf-8", "replace"), safe=ATTR_CHARS)


def _cut(name: str, most: int, length_of: Callable[[str], int]) -> str:
    """The name, or as much of it as has this length, with its ending."""
    if length_of(name) <= most:
        return name
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending) > MAX_ENDING:
        stem, ending = name, ""
    room, kept = most - length_of(dot + ending if ending else ""), []
    for character in stem:
        room -= length_of(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + (dot + ending if ending else "")


def _is_unprintable(character: str) -> bool:
    """Whether it is a control or format character, a surrogate, or a separator of lines or paths."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in "/\\"
