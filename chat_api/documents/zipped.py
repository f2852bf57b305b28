"""Documents that are zips with XML or HTML in them: those of word processors, spreadsheets and slides, and e-books."""

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import IO, Any
from urllib.parse import unquote

from . import xml_text
from .encodings import decoded
from .errors import ENCRYPTED, TOO_COMPLEX, TOO_LARGE, UNREADABLE, Unextractable
from .limits import MAX_DIRECTORY_BYTES, MAX_ENTRIES, MAX_SHARED_BYTES, MAX_UNPACKED_BYTES
from .output import Output
from .plain import add_html

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENTRY = b"PK\x01\x02"  # what each entry of the directory begins with
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError,
           OverflowError, OSError, KeyError)  # fmt: skip
_LEGACY = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # also what an encrypted file of Microsoft's is wrapped in

_PARAGRAPHS = {"p", "h", "tr", "br", "line-break", "list-item", "table-row", "cr"}
_TABS = {"tab", "tc", "table-cell"}


class _Bounded:
    """A file that refuses reads as large, or with as many entries, as the directory of a document must not have."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(MAX_DIRECTORY_BYTES + 1 if size < 0 else min(size, MAX_DIRECTORY_BYTES + 1))
        if len(content) > MAX_DIRECTORY_BYTES or content.count(_ENTRY) > MAX_ENTRIES:
            raise Unextractable(TOO_COMPLEX)
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Archive:
    """A zip whose files are read up to a limit on all of them together; its headers are not trusted."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(_Bounded(file))
        self._left_bytes = MAX_UNPACKED_BYTES
        self.names = {info.filename for info in self._zip.infolist()}

    def open(self, name: str) -> "_Member":
        """A file of the zip. Raises Unextractable for one that is encrypted or packed in an unusual way."""
        info = self._zip.getinfo(name)
        if info.flag_bits & 1:
            raise Unextractable(ENCRYPTED)
        if info.compress_type not in _METHODS:
            raise Unextractable(UNREADABLE)
        return _Member(self._zip.open(info), self.spend)

    def read(self, name: str, max_bytes: int) -> bytes:
        """All of a file that is small. Raises Unextractable for a larger one."""
        member, parts, size_bytes = self.open(name), [], 0
        while chunk := member.read(65536):
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                raise Unextractable(TOO_LARGE)
            parts.append(chunk)
        return b"".join(parts)

    def spend(self, size_bytes: int) -> None:
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            raise Unextractable(TOO_LARGE)


class _Member:
    def __init__(self, file: IO[bytes], spend: Callable[[int], None]) -> None:
        self._file, self._spend = file, spend

    def read(self, size: int) -> bytes:
        chunk = self._file.read(size)
        self._spend(len(chunk))
        return chunk


def read_zip(file: IO[bytes], output: Output) -> None:
    """The text of a document that is a zip. Raises Unextractable for any other zip."""
    try:
        archive = _Archive(file)
        read = _reader(archive)
        if read is None:
            raise Unextractable(UNREADABLE)
        read(archive, output)
    except _BROKEN as error:
        raise Unextractable(UNREADABLE) from error


def is_legacy(head: bytes) -> bool:
    """Whether a file that begins so is an old file of Microsoft's, or an encrypted one."""
    return head.startswith(_LEGACY)


def _reader(archive: _Archive) -> Callable[[_Archive, Output], None] | None:
    names = archive.names
    if "word/document.xml" in names:
        return _read_docx
    if "xl/workbook.xml" in names:
        return _read_xlsx
    if "ppt/presentation.xml" in names:
        return _read_pptx
    if "META-INF/container.xml" in names:
        return _read_epub
    if "content.xml" in names:
        return _read_odf
    return None


# -- word processors and slides ------------------------------------------------------------------------------


def _add_paragraphs(archive: _Archive, name: str, output: Output, *, text_in: set[str] | None = None) -> None:
    """Add the texts of a file of XML, a line for each paragraph; only those in elements of these names, if given."""
    inside = 0

    def start(element: str, attributes: dict[str, str]) -> None:
        nonlocal inside
        if text_in is not None and element in text_in:
            inside += 1
        if element in _TABS:
            output.add("\t")
        elif element == "s":  # several blanks of OpenDocument
            count = attributes.get("c", "1")
            output.add(" " * min(int(count), 80) if count.isascii() and count.isdecimal() else " ")

    def end(element: str) -> None:
        nonlocal inside
        if text_in is not None and element in text_in:
            inside -= 1
        if element in _PARAGRAPHS:
            output.add("\n")

    def text(data: str) -> None:
        if text_in is None or inside:
            output.add(data)

    xml_text.parse(archive.open(name), start=start, end=end, text=text)  # type: ignore[arg-type]


def _read_docx(archive: _Archive, output: Output) -> None:
    for name in ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml", "word/comments.xml"):
        if name in archive.names:
            _add_paragraphs(archive, name, output, text_in={"t"})
            output.add("\n")


def _read_pptx(archive: _Archive, output: Output) -> None:
    for folder in ("slides/slide", "notesSlides/notesSlide"):
        for name in _numbered(archive.names, rf"ppt/{folder}(\d{{1,6}})\.xml"):
            _add_paragraphs(archive, name, output, text_in={"t"})
            output.add("\n")


def _read_odf(archive: _Archive, output: Output) -> None:
    if "META-INF/manifest.xml" in archive.names:
        manifest = archive.read("META-INF/manifest.xml", 1024 * 1024)
        if b"encryption-data" in manifest:
            raise Unextractable(ENCRYPTED)
    _add_paragraphs(archive, "content.xml", output)


def _numbered(names: Iterable[str], pattern: str) -> list[str]:
    found = [(int(match[1]), name) for name in names if (match := re.fullmatch(pattern, name))]
    return [name for _, name in sorted(found)]


# -- spreadsheets --------------------------------------------------------------------------------------------


def _read_xlsx(archive: _Archive, output: Output) -> None:
    shared = _shared_texts(archive)
    for name in _numbered(archive.names, r"xl/worksheets/sheet(\d{1,6})\.xml"):
        _add_sheet(archive, name, shared, output)
        output.add("\n")


def _shared_texts(archive: _Archive) -> list[str]:
    """The texts that cells refer to by number."""
    texts: list[str] = []
    if "xl/sharedStrings.xml" not in archive.names:
        return texts
    parts: list[str] = []
    in_text, in_reading, size_bytes = False, False, 0

    def start(element: str, attributes: dict[str, str]) -> None:
        nonlocal in_text, in_reading
        if element == "si":
            parts.clear()
        in_text = element == "t"
        in_reading = in_reading or element == "rPh"  # how it is pronounced

    def end(element: str) -> None:
        nonlocal in_text, in_reading
        in_text = False
        if element == "rPh":
            in_reading = False
        elif element == "si":
            texts.append("".join(parts))

    def text(data: str) -> None:
        nonlocal size_bytes
        if in_text and not in_reading:
            size_bytes += len(data)
            if size_bytes > MAX_SHARED_BYTES:
                raise Unextractable(TOO_LARGE)
            parts.append(data)

    xml_text.parse(archive.open("xl/sharedStrings.xml"), start=start, end=end, text=text)  # type: ignore[arg-type]
    return texts


def _add_sheet(archive: _Archive, name: str, shared: list[str], output: Output) -> None:
    """Add the values of a sheet: a line for each row, with tabs between cells."""
    is_shared = in_value = False
    value: list[str] = []

    def start(element: str, attributes: dict[str, str]) -> None:
        nonlocal is_shared, in_value
        if element == "c":
            is_shared = attributes.get("t") == "s"
            value.clear()
        in_value = element in ("v", "t")

    def end(element: str) -> None:
        nonlocal in_value
        in_value = False
        if element == "c":
            found = "".join(value)
            if is_shared:
                is_number = found.isascii() and found.isdecimal() and len(found) < 10
                number = int(found) if is_number else len(shared)
                found = shared[number] if number < len(shared) else ""
            output.add(f"{found}\t")
        elif element == "row":
            output.add("\n")

    def text(data: str) -> None:
        if in_value:
            value.append(data)

    xml_text.parse(archive.open(name), start=start, end=end, text=text)  # type: ignore[arg-type]


# -- e-books -------------------------------------------------------------------------------------------------


def _read_epub(archive: _Archive, output: Output) -> None:
    """The chapters, in the order in which they are read."""
    for name in _chapters(archive):
        if name in archive.names:
            add_html(decoded(archive.read(name, MAX_SHARED_BYTES)), output)
            output.add("\n")


def _chapters(archive: _Archive) -> list[str]:
    packages: list[str] = []

    def find_package(element: str, attributes: dict[str, str]) -> None:
        if element == "rootfile" and "full-path" in attributes:
            packages.append(attributes["full-path"])

    _elements(archive, "META-INF/container.xml", find_package)
    package = next((name for name in packages if name in archive.names), None)
    if package is None:
        raise Unextractable(UNREADABLE)
    items: dict[str, str] = {}
    order: list[str] = []

    def find_chapter(element: str, attributes: dict[str, str]) -> None:
        if element == "item":
            items[attributes.get("id", "")] = attributes.get("href", "")
        elif element == "itemref" and len(order) < MAX_ENTRIES:
            order.append(attributes.get("idref", ""))

    _elements(archive, package, find_chapter)
    folder = package.rpartition("/")[0]
    names = [unquote(items[key]).partition("#")[0] for key in order if key in items]
    return [f"{folder}/{name}" if folder else name for name in names]


def _elements(archive: _Archive, name: str, start: xml_text.Start) -> None:
    xml_text.parse(archive.open(name), start=start, end=lambda _: None, text=lambda _: None)  # type: ignore[arg-type]
