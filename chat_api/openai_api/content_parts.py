"""Contents of messages as clients of this dialect send them: a text, or a list of texts and files. Pure functions.

Both vocabularies are read: that of chat.completions (`text`, `image_url`, `input_audio`, `file`) and that of responses
(`input_text`, `input_image`, `input_file`), so every kind of request can use it:

    content = content_of(item["content"], "input[0].content", takes_files=role == "user")
    Draft(role, content.text, parts=content.parts)

What a file is decides its content. Links to pictures are handed on to the provider, and never fetched here.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from mimetypes import guess_extension, guess_type
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from ..attachments.models import MAX_FILE_PATH
from ..attachments.references import LinkedFile, is_link
from ..attachments.uploads import HEAD_BYTES, label_of
from ..completions.draft_files import DraftPart, File, InlineFile, NamedFile
from ..files.models import UNKNOWN
from ..messages.parts import BETWEEN_TEXTS, MAX_ATTACHMENT_IDS, MAX_CONTENT_BYTES, MAX_PARTS
from . import ids
from .errors import RequestRefused

TEXTS = ("text", "input_text", "output_text", "refusal")
IMAGES = ("image_url", "input_image")
FILES = ("file", "input_file")
RECORDINGS = {"wav": "audio/wav", "mp3": "audio/mpeg"}
UNKNOWN_IMAGE = "image/*"  # what a picture at an address is, where the address does not say


class Content(NamedTuple):
    """What a message says."""

    text: str  # all its texts
    parts: tuple[DraftPart, ...]  # all in order, where there are files


def content_of(content: Any, where: str, *, takes_files: bool) -> Content:
    """A content. Raises RequestRefused, with the place as `param`."""
    if not isinstance(content, list):
        return Content(_bounded(content, where), ())
    parts = [
        part_of(part, f"{where}[{index}]", takes_files=takes_files) for index, part in enumerate(content)
    ]
    text = _bounded(joined(part for part in parts if isinstance(part, str)), where)
    count = sum(not isinstance(part, str) for part in parts)
    if not count:
        return Content(text, ())
    if count > MAX_ATTACHMENT_IDS or len(parts) > MAX_PARTS:
        raise RequestRefused(
            f"{where}: at most {MAX_PARTS} parts, of which {MAX_ATTACHMENT_IDS} are files.", param=where
        )
    return Content(text, tuple(part for part in parts if part != ""))


def joined(texts: Iterable[str]) -> str:
    """Texts of a content as one; empty ones are none, as clients leave them out when they send it again."""
    return BETWEEN_TEXTS.join(text for text in texts if text)


def _bounded(text: Any, where: str) -> str:
    if not isinstance(text, str):
        raise RequestRefused(f"{where} must be a string or a list of parts.", param=where)
    if len(text.encode()) > MAX_CONTENT_BYTES:
        raise RequestRefused(f"{where} is longer than {MAX_CONTENT_BYTES} bytes.", param=where)
    return text


def part_of(part: Any, where: str, *, takes_files: bool) -> DraftPart:
    """One part of a content. Raises RequestRefused, with the place as `param`."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in TEXTS:
        text = part.get("text", part.get("refusal"))
        if not isinstance(text, str):
            raise RequestRefused(f"{where}.text must be a string.", param=f"{where}.text")
        return text
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        known = ", ".join(dict.fromkeys((*TEXTS, *_READERS)))
        raise RequestRefused(f"{where}.type must be one of {known}.", param=f"{where}.type")
    if not takes_files:
        raise RequestRefused(f"{where}.type: only messages of users have files.", param=f"{where}.type")
    return reader(part, where)


def _image(part: Mapping[str, Any], where: str) -> File:
    """A picture: inline, at an address, or by the id of a file."""
    at = f"{where}.image_url"
    given = part.get("image_url")
    if isinstance(given, dict):
        given, at = given.get("url"), f"{at}.url"
    if part.get("file_id") is not None:  # an item that was read here has both
        return _named(part["file_id"], f"{where}.file_id")
    if not isinstance(given, str):
        raise RequestRefused(f"{at} must be a data: or https: URL.", param=at)
    if given[:5].lower() == "data:":
        file = _of_data_url(given, at, "")
        if not file.file_type.startswith("image/"):
            raise RequestRefused(f"{at}: the content is no image but {file.file_type}.", param=at)
        return file
    if not is_link(given) or len(given) > MAX_FILE_PATH:
        raise RequestRefused(
            f"{at} must be a data: or https: URL, the latter of at most {MAX_FILE_PATH} characters.", param=at
        )
    guessed = guess_type(given.partition("?")[0].partition("#")[0], strict=False)[0] or ""
    return LinkedFile(guessed if guessed.startswith("image/") else UNKNOWN_IMAGE, given)


def _recording(part: Mapping[str, Any], where: str) -> File:
    where = f"{where}.input_audio"
    given = part.get("input_audio")
    claimed = RECORDINGS.get(str(given.get("format")).lower()) if isinstance(given, dict) else None
    if not isinstance(given, dict) or claimed is None:
        raise RequestRefused(
            f"{where}.format must be one of {', '.join(RECORDINGS)}.", param=f"{where}.format"
        )
    at = f"{where}.data"
    file = _inline(_base64(given.get("data"), at), at, claimed, "")
    if not file.file_type.startswith(("audio/", "video/", UNKNOWN)):
        raise RequestRefused(f"{at}: the content is no recording but {file.file_type}.", param=at)
    return file


def _file(part: Mapping[str, Any], where: str) -> File:
    """A file: inline, or by its id."""
    if part.get("type") == "file":
        where = f"{where}.file"
        part = part["file"] if isinstance(part.get("file"), dict) else {}
    if part.get("file_id") is not None:
        return _named(part["file_id"], f"{where}.file_id")
    if part.get("file_url") is not None:
        raise RequestRefused(
            f"{where}.file_url: only pictures may be links; send file_data or file_id.",
            param=f"{where}.file_url",
        )
    name, data, at = part.get("filename"), part.get("file_data"), f"{where}.file_data"
    if name is not None and not isinstance(name, str):
        raise RequestRefused(f"{where}.filename must be a string.", param=f"{where}.filename")
    if isinstance(data, str) and data[:5].lower() == "data:":
        return _of_data_url(data, at, name or "")
    return _inline(_base64(data, at), at, "", name or "")


def _named(given: Any, where: str) -> NamedFile:
    attachment_id = ids.read(given) if isinstance(given, str) else None
    if attachment_id is None:
        raise RequestRefused(f"{where}: there is no such file.", param=where, code="not_found", status=404)
    return NamedFile(attachment_id)


def _of_data_url(url: str, where: str, file_name: str) -> InlineFile:
    """RFC 2397."""
    head, comma, _ = url.partition(",") if "," in url[:1000] else ("", "", "")
    if not comma:
        raise RequestRefused(f"{where} is a data: URL without a comma.", param=where)
    claimed, *parameters = head[5:].split(";")
    begin = len(head) + 1
    if parameters and parameters[-1].strip().lower() == "base64":
        return _inline(_base64(url, where, begin), where, claimed, file_name)
    return _inline(lambda: unquote_to_bytes(url[begin:]), where, claimed, file_name)


def _base64(data: Any, where: str, begin: int = 0) -> Callable[[], bytes]:
    if not isinstance(data, str):
        raise RequestRefused(f"{where} must be the content in Base64.", param=where)
    return partial(_decoded, data, begin)


def _decoded(data: str, begin: int) -> bytes:
    """The content of a text in Base64, also without padding, with line breaks, or escaped as in any URL.

    Raises ValueError.
    """
    raw = data[begin:].encode("ascii")
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    if raw.translate(None, b"\t\n\r ") != raw:
        raw = raw.translate(None, b"\t\n\r ")
    return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)


def _inline(read: Callable[[], bytes], where: str, claimed: str, file_name: str) -> InlineFile:
    from ..attachments.file_types import OtherContent, type_of  # its tables take a moment to load

    try:
        content = read()
    except (ValueError, binascii.Error):
        raise RequestRefused(f"{where} is no valid Base64.", param=where) from None
    if not content:
        raise RequestRefused(f"{where} is empty.", param=where)
    head = content[:HEAD_BYTES]
    try:
        file_type = type_of(head, claimed=claimed, file_name=file_name)
    except OtherContent:  # a PNG that is called a JPEG is a picture all the same
        file_type = type_of(head, file_name=file_name)
    kind = file_type.partition("/")[0]
    stem = {"image": "image", "audio": "audio"}.get(kind, "file")
    name = label_of(file_name) if file_name else f"{stem}{guess_extension(file_type) or ''}"
    return InlineFile(hashlib.sha256(content).hexdigest(), len(content), file_type, name, read)


_READERS: dict[str, Callable[[Mapping[str, Any], str], File]] = {
    **dict.fromkeys(IMAGES, _image),
    "input_audio": _recording,
    **dict.fromkeys(FILES, _file),
}
