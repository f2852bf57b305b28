"""Finding out how a text is encoded."""

import codecs
import re
from encodings.aliases import aliases

from .errors import UNREADABLE, Unextractable

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Those in which files still come, to be told by their bytes
_OLD_ENCODINGS = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874", "cp866", "koi8-r",
    "iso8859-2", "iso8859-5", "iso8859-6", "cp932", "euc-jp", "gb18030", "big5", "cp949",
)  # fmt: skip
# What pages declare and mean (WHATWG Encoding Standard, section 4.2); no others, as some can hide ASCII, such as UTF-7
_MEANT = {name.replace("-", "_"): name for name in _OLD_ENCODINGS} | {
    "ascii": "cp1252", "latin_1": "cp1252", "iso8859_7": "iso8859-7", "iso8859_8": "iso8859-8", "iso8859_9": "cp1254",
    "iso8859_11": "cp874", "iso8859_15": "iso8859-15", "koi8_u": "koi8-u", "shift_jis": "cp932", "gb2312": "gb18030",
    "gbk": "gb18030", "euc_kr": "cp949",
}  # fmt: skip
_ANY = "cp1252"  # in which nearly all bytes mean something
_LOOKED_AT_BYTES = 4096
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\x0b\x0c\r\x1b"))
_MOST_CONTROLS = 0.02  # of the bytes of a text in some old encoding; more are a file of another kind

_ASCII = bytes(range(0x80))
_DECLARED = re.compile(
    rb"""<(?:meta|\?xml)\s[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?([\w-]{1,40})""", re.IGNORECASE
)
_SAMPLE_BYTES, _PIECE_BYTES = 65536, 65536
# Confidences of the detector below which its guess is as often wrong as right (tests/documents/test_encodings.py):
# short texts in Latin letters look like those of other languages, while a third of other bytes is another script
_LEAST_CONFIDENCE, _LEAST_CONFIDENCE_OF_OTHER_SCRIPTS = 0.2, 0.1
_SHARE_OF_OTHER_SCRIPTS = 1 / 3


def decoded(content: bytes) -> str:
    """The text of bytes: by their mark, as UTF-8, as UTF-16 without a mark, in the encoding that a page declares, or in
    the old encoding that fits best. Raises Unextractable for bytes that are no text."""
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    head = content[:_LOOKED_AT_BYTES]
    if utf16 := _utf16(head):
        return content.decode(utf16, "replace")
    if _has_controls(head):
        raise Unextractable(UNREADABLE)
    for encoding in ("iso2022_jp", "utf-8") if b"\x1b$" in content else ("utf-8",):
        try:
            # not the end, which may be in the middle of a character
            return codecs.getincrementaldecoder(encoding)().decode(content)
        except UnicodeError:
            pass
    return _decoded_as(_declared(head) or _detected(content), content)


def can_be_text(content: bytes) -> bool:
    """Whether `decoded` takes these bytes for text."""
    head = content[:_LOOKED_AT_BYTES]
    has_mark = any(content.startswith(mark) for mark, _ in _BOMS)
    return has_mark or _utf16(head) is not None or not _has_controls(head)


def _has_controls(head: bytes) -> bool:
    return len(head) - len(head.translate(None, _CONTROLS)) > _MOST_CONTROLS * len(head)


def _utf16(head: bytes) -> str | None:
    """The order of the bytes of UTF-16 without a mark: every other one is zero in most texts with Latin letters."""
    even, odd = head[0::2], head[1::2]
    if len(odd) >= 4 and odd.count(0) > 0.4 * len(odd) and even.count(0) < 0.05 * len(even):
        return "utf-16-le"
    if len(odd) >= 4 and even.count(0) > 0.4 * len(even) and odd.count(0) < 0.05 * len(odd):
        return "utf-16-be"
    return None


def _declared(head: bytes) -> str | None:
    """The old encoding that an HTML or XML file says it has."""
    found = _DECLARED.search(head)
    name = found[1].decode().lower().replace("-", "_") if found else ""
    return _MEANT.get(aliases.get(name, name))


def _detected(content: bytes) -> str:
    """The encoding that fits a text best, where there is enough of it to tell."""
    import chardet  # takes 70 ms, and most texts are UTF-8

    ascii_bytes = len(content) - len(content.lstrip(_ASCII))
    begin = max(0, ascii_bytes - _LOOKED_AT_BYTES)
    sample = content[begin : begin + _SAMPLE_BYTES]
    found = chardet.detect(sample, include_encodings=_OLD_ENCODINGS)
    is_other_script = len(sample.translate(None, _ASCII)) > _SHARE_OF_OTHER_SCRIPTS * len(sample)
    least = _LEAST_CONFIDENCE_OF_OTHER_SCRIPTS if is_other_script else _LEAST_CONFIDENCE
    return found["encoding"] if found["encoding"] and found["confidence"] >= least else _ANY


def _decoded_as(encoding: str, content: bytes) -> str:
    """In pieces, as Python takes time that grows with the square of the size where many bytes mean nothing."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    pieces = range(0, len(content), _PIECE_BYTES)
    return "".join(decoder.decode(content[begin : begin + _PIECE_BYTES]) for begin in pieces)
