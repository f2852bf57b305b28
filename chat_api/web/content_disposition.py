"""The header Content-Disposition for file names of any characters (RFC 6266, RFC 8187)."""

import re
import unicodedata
from urllib.parse import quote

ATTR_CHARS = "!#$&+-.^_`|~"  # besides letters and digits (RFC 8187 section 3.2.1)
# what a quoted string can't have, or what browsers take for something else: quotes, backslashes, percent signs, and
# separators of paths (RFC 6266, section 4.3 and appendix D)
_UNSAFE = re.compile(r'["\\/%:*?<>|]')
UNNAMED = "file"


def content_disposition(disposition: str, file_name: str) -> str:
    """The value of the header: the name in ASCII, and where that is not all of it the real one."""
    name = "".join("_" if _is_unprintable(each) else each for each in file_name).strip() or UNNAMED
    plain = _plain(name)
    if plain == name:
        return f'{disposition}; filename="{plain}"'
    encoded = quote(name.encode("utf-8", "replace"), safe=ATTR_CHARS)
    return f"{disposition}; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def _plain(name: str) -> str:
    """The name in ASCII: é as e, and _ for what has no such letter."""
    decomposed = unicodedata.normalize("NFKD", name)
    letters = "".join(each for each in decomposed if not unicodedata.combining(each))
    return _UNSAFE.sub("_", letters.encode("ascii", "replace").decode().replace("?", "_"))


def _is_unprintable(character: str) -> bool:
    """Whether it is a control or format character, a surrogate, or a separator of lines or paths."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in "/\\"
