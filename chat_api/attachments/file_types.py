"""What a file is, by its content. What a client claims is only compared with that."""

import re
from mimetypes import guess_type

import filetype

UNKNOWN = "application/octet-stream"
HTML, SVG, XML, PLAIN, PDF, ZIP = (
    "text/html", "image/svg+xml", "application/xml", "text/plain", "application/pdf", "application/zip",
)  # fmt: skip
NOT_CLAIMED = ("", UNKNOWN, "binary/octet-stream", "application/x-unknown")
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
}  # fmt: skip
# types of one container: which of them it is can't be seen at the beginning
_CONTAINERS = (
    {"video/mp4", "audio/mp4", "video/quicktime", "video/x-m4v", "video/3gpp", "audio/3gpp"},
    {"video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska"},
    {"audio/ogg", "video/ogg", "application/ogg", "audio/opus"},
    {"image/heic", "image/heif", "image/heic-sequence", "image/heif-sequence"},
    {"audio/mpeg", "audio/aac"},
)
_IN_ZIP = {
    b"word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    b"xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    b"ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    b"mimetypeapplication/vnd.oasis.opendocument.text": "application/vnd.oasis.opendocument.text",
    b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet": "application/vnd.oasis.opendocument.spreadsheet",
    b"mimetypeapplication/vnd.oasis.opendocument.presentation": "application/vnd.oasis.opendocument.presentation",
    b"mimetypeapplication/epub+zip": "application/epub+zip",
}
# types of text that no browser runs, so a claim decides which of them a text is
_TEXT_TYPES = re.compile(
    r"text/(?!html|xml)[a-z0-9.+-]+|application/(json|ld\+json|geo\+json|x-ndjson|ndjson|jsonl|yaml|x-yaml|toml|sql"
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
    if found == PLAIN:
        return _kind_of_text(claimed, file_name)
    if claimed in NOT_CLAIMED or claimed == found:
        return found
    if found == UNKNOWN:
        if claimed.startswith(("image/", "audio/", "video/", "text/")) or _is_known(claimed):
            raise OtherContent(claimed, "of an unknown kind")
        return found
    if any({claimed, found} <= container for container in _CONTAINERS):
        return claimed
    if found in (HTML, XML, SVG) and _is_source(claimed):
        return found
    if found == ZIP and not _is_known(claimed) and claimed.startswith("application/"):
        return found  # the many formats that are zips of something
    raise OtherContent(claimed, found)


def _found(head: bytes) -> str:
    """What the content says by itself."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\t\n\x0b\x0c\r ")
    if start.startswith(b"%PDF-"):
        return PDF
    if head.startswith(b"PK\x03\x04"):
        return next((kind for mark, kind in _IN_ZIP.items() if mark in head), ZIP)
    kind = filetype.guess(head)
    if kind is not None:
        mime: str = kind.mime
        return _ALIASES.get(mime, mime)
    if not head or _is_text(head):
        return _markup(start)
    return UNKNOWN


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
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3  # a character that the head cuts
    return True


def _kind_of_text(claimed: str, file_name: str) -> str:
    if claimed in NOT_CLAIMED:
        named = guess_type(file_name, strict=False)[0] or "" if file_name else ""
        named = _ALIASES.get(named, named)
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


def _is_known(claimed: str) -> bool:
    """Whether the content would show that it is this."""
    return claimed in _KNOWN


_KNOWN = {_ALIASES.get(kind.mime, kind.mime) for kind in filetype.TYPES} | {
    *_IN_ZIP.values(),
    PDF,
    HTML,
    SVG,
    XML,
}
