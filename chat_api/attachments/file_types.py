"""What a file is, by its content. What a client claims is only compared with that."""

import codecs
import re
from mimetypes import guess_type

import filetype

from ..documents.encodings import can_be_text
from ..files.models import UNKNOWN

HTML, SVG, XML, PLAIN, PDF, ZIP = (
    "text/html", "image/svg+xml", "application/xml", "text/plain", "application/pdf", "application/zip",
)  # fmt: skip
NOT_CLAIMED = ("", UNKNOWN, "binary/octet-stream", "application/x-unknown")
# what systems call files by an ending that texts have as well: .csv, .ts, .mod
_SAID_OF_TEXTS = ("application/vnd.ms-excel", "video/mp2t", "video/vnd.dlna.mpeg-tts", "audio/x-mod")
# how a browser that looks at the content finds HTML (https://mimesniff.spec.whatwg.org/, section 7.1), and where a tag
# may end
_HTML = re.compile(
    rb"<(!--|(!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|img|form|input|svg"
    rb"|object|embed|link|meta|base|frameset|math|template|video|audio)[\s/>])",
    re.IGNORECASE,
)
_SVG = re.compile(rb"<(\w+:)?svg[\s/>]", re.IGNORECASE)
_ALIASES = {
    "image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png",
    "image/x-icon": "image/vnd.microsoft.icon", "image/x-ms-bmp": "image/bmp", "image/tif": "image/tiff",
    "audio/mp3": "audio/mpeg", "audio/x-mpeg": "audio/mpeg", "audio/mpeg3": "audio/mpeg", "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav", "audio/vnd.wave": "audio/wav", "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4", "audio/m4a": "audio/mp4", "audio/aacp": "audio/aac", "audio/x-aac": "audio/aac",
    "application/x-pdf": PDF, "application/x-zip-compressed": ZIP, "application/x-zip": ZIP,
    "application/x-gzip": "application/gzip", "text/xml": XML, "application/xhtml+xml": HTML,
    "application/x-rar": "application/x-rar-compressed", "application/vnd.rar": "application/x-rar-compressed",
    "image/apng": "image/png", "text/rtf": "application/rtf", "font/woff": "application/font-woff",
    "font/woff2": "application/font-woff", "font/ttf": "application/font-sfnt", "font/otf": "application/font-sfnt",
}  # fmt: skip
_WORD, _SHEET, _SLIDES = (
    f"application/vnd.openxmlformats-officedocument.{kind}"
    for kind in ("wordprocessingml", "spreadsheetml", "presentationml")
)
_OPEN = "application/vnd.oasis.opendocument"
_MACROS = "macroenabled.12"
# types of one container: which of them it is can't be seen at the beginning
_CONTAINERS = (
    {"video/mp4", "audio/mp4", "video/quicktime", "video/x-m4v", "video/3gpp", "audio/3gpp"},
    {"video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska"},
    {"audio/ogg", "video/ogg", "application/ogg", "audio/opus"},
    {"image/heic", "image/heif", "image/heic-sequence", "image/heif-sequence"},
    {"audio/mpeg", "audio/aac"},
    {f"{_WORD}.document", f"{_WORD}.template", f"application/vnd.ms-word.document.{_MACROS}",
     f"application/vnd.ms-word.template.{_MACROS}"},
    {f"{_SHEET}.sheet", f"{_SHEET}.template", f"application/vnd.ms-excel.sheet.{_MACROS}",
     f"application/vnd.ms-excel.template.{_MACROS}", f"application/vnd.ms-excel.sheet.binary.{_MACROS}"},
    {f"{_SLIDES}.presentation", f"{_SLIDES}.template", f"{_SLIDES}.slideshow",
     f"application/vnd.ms-powerpoint.presentation.{_MACROS}", f"application/vnd.ms-powerpoint.slideshow.{_MACROS}",
     f"application/vnd.ms-powerpoint.template.{_MACROS}"},
    {f"{_OPEN}.text", f"{_OPEN}.text-template"},
    {f"{_OPEN}.spreadsheet", f"{_OPEN}.spreadsheet-template"},
    {f"{_OPEN}.presentation", f"{_OPEN}.presentation-template"},
)  # fmt: skip
# the name of a file in a zip, after its 30 bytes of header: so `sword/` is not taken for it
_OFFICE = re.compile(rb"PK\x03\x04.{26}(word|xl|ppt)/", re.DOTALL)
_IN_ZIP = {
    b"word": f"{_WORD}.document",
    b"xl": f"{_SHEET}.sheet",
    b"ppt": f"{_SLIDES}.presentation",
    b"mimetypeapplication/vnd.oasis.opendocument.text": f"{_OPEN}.text",
    b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet": f"{_OPEN}.spreadsheet",
    b"mimetypeapplication/vnd.oasis.opendocument.presentation": f"{_OPEN}.presentation",
    b"mimetypeapplication/epub+zip": "application/epub+zip",
}
# Microsoft's older container, which is also what a newer document is wrapped in that has a password
_OLE_MARK, OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"
_OLD_DOCUMENTS = ("application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint")
_IN_OLE = re.compile(
    r"application/(msword|vnd\.ms-[a-z0-9.-]{1,60}|vnd\.visio|vnd\.openxmlformats-officedocument\.[a-z.]{1,60})"
)
# types of text that no browser runs, so a claim decides which of them a text is; RFC 6838 bounds the names
_TEXT_TYPES = re.compile(
    r"text/(?!html|xml)[a-z0-9.+-]{1,127}|application/(json|ld\+json|geo\+json|x-ndjson|ndjson|jsonl|yaml|x-yaml|toml|sql"
    r"|graphql|x-sh|x-python|javascript|typescript|x-tex|x-httpd-php|rtf)"
)


class OtherContent(ValueError):
    """The content is not what the client calls it."""

    def __init__(self, claimed: str, found: str) -> None:
        super().__init__(f"The content is {found}, not {claimed}.")


def type_of(head: bytes, *, claimed: str = "", file_name: str = "") -> str:
    """The media type of a file that begins with `head`. Raises OtherContent where something else is claimed."""
    claimed = claimed.partition(";")[0].strip().lower()
    claimed = _ALIASES.get(claimed, claimed)
    found = _found(head)
    if found == UNKNOWN and _is_called_text(claimed, file_name) and can_be_text(head):
        found = _markup(_start_of(head))
    if found == PLAIN:
        return _kind_of_text(claimed, file_name)
    if claimed in NOT_CLAIMED or claimed == found:
        return found
    if found in (OLE, *_OLD_DOCUMENTS) and _IN_OLE.fullmatch(claimed):
        return claimed
    if found == UNKNOWN:
        if claimed.startswith(("image/", "audio/", "video/", "text/")) or _is_known(claimed):
            raise OtherContent(claimed, "of an unknown kind")
        return found
    if any({claimed, found} <= container for container in _CONTAINERS):
        return claimed
    if found in (HTML, XML, SVG):
        if _is_source(claimed) or (_is_xml_type(claimed) and _is_xml(head)):
            return found
    elif claimed == ZIP and found in _IN_ZIP.values():
        return found
    elif not _is_known(claimed) and claimed.partition("/")[0] == found.partition("/")[0]:
        return found  # another name for it, or one of the many formats that are zips of something, say
    raise OtherContent(claimed, found)


def _found(head: bytes) -> str:
    """What the content says by itself."""
    start = _start_of(head)
    if start.startswith(b"%PDF-"):
        return PDF
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(head)
    # whatever the first letters of a text are: BM, ID3 and MZ are marks of formats, and begin words as well
    if not head or (_is_text(head) and not start.startswith((b"{\\rtf", b"%!PS"))):
        return _markup(start)
    kind = filetype.guess(head)
    if kind is None:
        return OLE if head.startswith(_OLE_MARK) else UNKNOWN
    mime: str = kind.mime
    return _ALIASES.get(mime, mime)


def _start_of(head: bytes) -> bytes:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\t\n\x0b\x0c\r ")


def _kind_of_zip(head: bytes) -> str:
    if office := _OFFICE.search(head):
        return _IN_ZIP[office[1]]
    return next(
        (kind for mark, kind in _IN_ZIP.items() if mark.startswith(b"mimetype") and mark in head), ZIP
    )


def _markup(start: bytes) -> str:
    if _SVG.match(start):
        return SVG
    if _HTML.match(start):
        return (
            SVG if start.startswith(b"<!--") and _SVG.search(start) and not _HTML_ROOT.search(start) else HTML
        )
    if start[:5].lower() == b"<?xml" or start[:9].lower() == b"<!doctype":
        if _SVG.search(start):
            return SVG
        return HTML if _HTML_ROOT.search(start) else XML
    return PLAIN


_HTML_ROOT = re.compile(rb"<(\w+:)?html[\s/>]", re.IGNORECASE)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\x0b\x0c\x08\x1b")) + b"\x7f"


def _is_text(head: bytes) -> bool:
    """Whether it is text in UTF-8, or in UTF-16 with its mark."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head[: len(head) // 2 * 2].decode("utf-16", "replace")
        return "\ufffd" not in text[:-1] and not any(ord(each) < 9 for each in text)
    if head.translate(None, _CONTROLS) != head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        return False
    return True


def _is_called_text(claimed: str, file_name: str) -> bool:
    """Whether the client says that it is text, or the ending of the name does."""
    called = _type_of_name(file_name) if claimed in (*NOT_CLAIMED, *_SAID_OF_TEXTS) else claimed
    return called in (HTML, SVG) or _is_xml_type(called) or _TEXT_TYPES.fullmatch(called) is not None


def _type_of_name(file_name: str) -> str:
    named = guess_type(file_name, strict=False)[0] or "" if file_name else ""
    return _ALIASES.get(named, named)


def _kind_of_text(claimed: str, file_name: str) -> str:
    if claimed in (*NOT_CLAIMED, *_SAID_OF_TEXTS):
        named = _type_of_name(file_name)
        return named if _TEXT_TYPES.fullmatch(named) else PLAIN
    if _TEXT_TYPES.fullmatch(claimed):
        return claimed
    if claimed in (HTML, XML, SVG):
        return claimed  # a fragment; these are served with more care than text is
    if claimed.startswith(("image/", "audio/", "video/")) or _is_known(claimed):
        raise OtherContent(claimed, PLAIN)
    return PLAIN


def _is_source(claimed: str) -> bool:
    """Whether markup may be called this: source text, which may begin with a tag."""
    return claimed in ("text/markdown", "text/x-markdown") or claimed.startswith(("text/x-", "text/jsx"))


def _is_xml_type(claimed: str) -> bool:
    return claimed == XML or (claimed.startswith("application/") and claimed.endswith("+xml"))


def _is_xml(head: bytes) -> bool:
    return _start_of(head)[:5].lower() == b"<?xml"


def _is_known(claimed: str) -> bool:
    """Whether the content would show that it is this."""
    return claimed in _KNOWN


_KNOWN = {_ALIASES.get(kind.mime, kind.mime) for kind in filetype.TYPES} | {
    *_IN_ZIP.values(),
    *set().union(*_CONTAINERS),
    PDF,
    HTML,
    SVG,
    XML,
}
