"""The text of documents: of sound ones of each kind, and of those that were made to do harm."""

import io
import os
import resource
import subprocess
import tempfile
import time
import zipfile
import zlib
from pathlib import Path
from unittest.mock import Mock

import pytest
from pypdf import PdfReader, PdfWriter

from chat_api.documents.errors import (
    CODES,
    ENCRYPTED,
    TOO_COMPLEX,
    TOO_LARGE,
    TOO_SLOW,
    UNREADABLE,
    Unextractable,
)
from chat_api.documents.extraction import DOCUMENT, HTML, PDF, TEXT, Extracted, extract, kind_of
from chat_api.documents.limits import MAX_TEXT_BYTES, MEMORY_BYTES

from .files import docx_of, pdf_of, zip_of


def extracted(content: bytes, kind: str, **limits: float) -> Extracted:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return extract(file, kind, **limits)  # type: ignore[arg-type]


def text_of(content: bytes, kind: str) -> str:
    return extracted(content, kind).text


def error_of(content: bytes, kind: str, **limits: float) -> str:
    with pytest.raises(Unextractable) as raised:
        extracted(content, kind, **limits)
    assert raised.value.code in CODES
    return raised.value.code


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_a_text_is_read_in_its_encoding(encoding: str) -> None:
    assert text_of("Grüße aus Köln,\nzwei Zeilen".encode(encoding), TEXT) == "Grüße aus Köln,\nzwei Zeilen"


def test_a_text_has_nothing_that_can_not_be_stored() -> None:
    text = text_of("one\x00two\x1b[31m \ufffe Grüße\r\nfour".encode() + b" five" * 20, TEXT)
    assert text.startswith("one two [31m  Grüße\nfour five")
    in_utf16 = "\ufeffhalf \ud800 of a pair".encode("utf-16-le", "surrogatepass")
    assert text_of(in_utf16, TEXT).encode().startswith(b"half ")


def test_a_binary_file_is_no_text() -> None:
    assert error_of(bytes(range(256)) * 40, TEXT) == UNREADABLE
    assert error_of(os.urandom(5000) + b"\x00" * 50, TEXT) == UNREADABLE


def test_a_long_text_is_cut() -> None:
    found = extracted(("ä" * 100 + "\n").encode() * 40_000, TEXT)
    assert found.is_cut
    assert MAX_TEXT_BYTES - 300 < len(found.text.encode()) <= MAX_TEXT_BYTES


def test_html_gives_what_a_reader_sees() -> None:
    page = b"""<!doctype html><html><head><title>Menu</title><style>p {}</style><script>alert('x')</script></head>
        <body><p>Soup &amp; bread<p>Fish<script>document.write("no")</script><br>Rice
        <table><tr><td>one<td>two</table>&lt;script&gt;</body></html>"""
    text = text_of(page, HTML)
    assert text.startswith("Menu")
    assert "Soup & bread\n" in text
    assert "one\ttwo" in text
    assert text.endswith("<script>")
    assert "alert" not in text
    assert "document.write" not in text
    assert "p {}" not in text


def test_html_with_much_that_is_not_closed_takes_no_longer_than_its_size() -> None:
    for begin in (
        b"<div>",
        b"<!--",
        b"<![CDATA[",
        b"<a b='",
        b"<a b='>",
        b"&#",
        b"</",
        b"<script>",
        b"<?",
        b"<",
    ):
        cpu_s = resource_cpu()
        assert isinstance(text_of(begin * 200_000, HTML), str), begin
        assert resource_cpu() - cpu_s < 8, begin


def test_a_word_document_is_read_by_paragraphs() -> None:
    assert text_of(docx_of("The contract", "begins in May"), DOCUMENT) == "The contract\nbegins in May"


def test_a_spreadsheet_is_read_by_rows() -> None:
    book = zip_of({
        "xl/workbook.xml": "<workbook/>",
        "xl/sharedStrings.xml": "<sst><si><t>Rent</t></si><si><r><t>Elec</t></r><r><t>tricity</t></r>"
        "<rPh><t>x</t></rPh></si></sst>",
        "xl/worksheets/sheet2.xml": "<worksheet><row><c t='inlineStr'><is><t>second</t></is></c></row></worksheet>",
        "xl/worksheets/sheet1.xml": "<worksheet><row><c t='s'><v>0</v></c><c><v>900</v></c></row>"
        "<row><c t='s'><v>1</v></c><c><f>SUM(A1)</f><v>80</v></c><c t='s'><v>99</v></c></row></worksheet>",
    })  # fmt: skip
    lines = text_of(book, DOCUMENT).splitlines()
    assert [line.split() for line in lines if line.strip()] == [
        ["Rent", "900"],
        ["Electricity", "80"],
        ["second"],
    ]


def test_slides_are_read_in_their_order() -> None:
    slides = zip_of({
        "ppt/presentation.xml": "<p/>",
        **{f"ppt/slides/slide{number}.xml": f"<a><p><t>Slide {number}</t></p></a>" for number in (10, 2, 1)},
        "ppt/notesSlides/notesSlide1.xml": "<a><p><t>Speak slowly</t></p></a>",
    })  # fmt: skip
    assert text_of(slides, DOCUMENT).split("\n\n") == ["Slide 1", "Slide 2", "Slide 10", "Speak slowly"]


def test_an_opendocument_text_is_read() -> None:
    content = (
        '<o xmlns:text="urn:t"><text:h>Head</text:h><text:p>a<text:s text:c="3"/>b<text:tab/>c</text:p></o>'
    )
    assert text_of(zip_of({"content.xml": content}), DOCUMENT) == "Head\na  b\tc"
    manifest = '<m:manifest xmlns:m="urn:m"><m:encryption-data/></m:manifest>'
    protected = zip_of({"content.xml": "not xml", "META-INF/manifest.xml": manifest})
    assert error_of(protected, DOCUMENT) == ENCRYPTED


def test_a_book_is_read_in_the_order_of_its_spine() -> None:
    book = zip_of({
        "META-INF/container.xml": '<c><rootfile full-path="OEBPS/book.opf"/></c>',
        "OEBPS/book.opf": '<p><item id="b" href="two%20.xhtml"/><item id="a" href="one.xhtml#x"/>'
        '<item id="c" href="../../etc/passwd"/><itemref idref="a"/><itemref idref="b"/><itemref idref="c"/></p>',
        "OEBPS/one.xhtml": "<html><body><p>Chapter one</p><script>x</script></body></html>",
        "OEBPS/two .xhtml": "<html><body><p>Chapter two</p></body></html>",
    })  # fmt: skip
    assert text_of(book, DOCUMENT) == "Chapter one\n\nChapter two"


def test_a_pdf_is_read_page_by_page() -> None:
    assert text_of(pdf_of("First page", "Second page"), PDF) == "First page\n\nSecond page"


def test_a_pdf_that_only_restricts_printing_is_read() -> None:
    for algorithm in ("RC4-128", "AES-256"):
        assert text_of(encrypted("", algorithm), PDF) == "Secret plan", algorithm


def test_a_pdf_with_a_password_says_so() -> None:
    for algorithm in ("RC4-128", "AES-256"):
        assert error_of(encrypted("open sesame", algorithm), PDF) == ENCRYPTED, algorithm


def encrypted(password: str, algorithm: str) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf_of("Secret plan"))))
    writer.encrypt(password, owner_password="owner", algorithm=algorithm)
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


def test_the_sound_pages_of_a_damaged_pdf_are_read() -> None:
    content = pdf_of("First page", "Second page").replace(b"/Contents 5 0 R", b"/Contents 1 0 R")
    found = extracted(content, PDF)
    assert found.text == "Second page"
    assert error_of(b"%PDF-1.7\n" + os.urandom(2000), PDF) == UNREADABLE


def test_pages_that_are_their_own_parents_end() -> None:
    looped = pdf_of("One").replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]")
    try:
        extracted(looped, PDF)
    except Unextractable as error:
        assert error.code in CODES  # noqa: PT017


def test_a_pdf_that_does_not_end_is_ended() -> None:
    """What was read before counts."""
    endless = pdf_of(
        contents=(b"BT /F1 12 Tf 20 100 Td (Beginning) Tj ET", b"BT /F1 9 Tf (x) Tj ET\n" * 1_200_000)
    )
    began = resource_cpu()
    found = extracted(endless, PDF, cpu_s=2)
    assert found.is_cut
    assert found.text.startswith("Beginning")
    assert resource_cpu() - began < 10


def resource_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


def test_a_process_that_waits_is_ended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "silent")
    keeps_open = os.open(tmp_path / "silent", os.O_RDWR)
    try:
        with open(tmp_path / "silent", "rb", buffering=0) as file:
            unseekable = Mock(fileno=file.fileno)
            began = time.monotonic()
            with pytest.raises(Unextractable) as raised:
                extract(unseekable, TEXT, wall_s=1)
    finally:
        os.close(keeps_open)
    assert raised.value.code == TOO_SLOW
    assert time.monotonic() - began < 30


def test_a_bomb_is_not_unpacked() -> None:
    made = io.BytesIO()
    with (
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("word/document.xml", "w") as member,
    ):
        member.write(b"<a><t>Before the bomb</t><b>")
        for _ in range(200):
            member.write(b" " * 1024 * 1024)
        member.write(b"</b></a>")
    found = extracted(made.getvalue(), DOCUMENT)
    assert found.is_cut
    assert found.text == "Before the bomb"
    page = zlib.compress(b" " * 300_000_000)
    content = pdf_of(contents=(page,)).replace(b"/Length", b"/Filter /FlateDecode /Length")
    try:
        assert extracted(content, PDF, cpu_s=10).text == ""
    except Unextractable as error:
        assert error.code in CODES  # noqa: PT017


def test_xml_with_entities_is_refused() -> None:
    laughs = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><a><t>&b;</t></a>'
    outside = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><a><t>&a;</t></a>'
    for hostile in (laughs, outside):
        assert error_of(zip_of({"word/document.xml": hostile}), DOCUMENT) == TOO_COMPLEX
    assert error_of(zip_of({"word/document.xml": "<a>" * 5000}), DOCUMENT) == TOO_COMPLEX


def test_a_zip_with_very_many_files_is_refused() -> None:
    many = zip_of({"word/document.xml": "<a/>"} | {f"{number}": b"" for number in range(21_000)})
    assert error_of(many, DOCUMENT) == TOO_COMPLEX


def test_a_zip_that_lies_is_refused() -> None:
    sound = docx_of("Text")
    for offset in range(0, len(sound), 23):
        broken = bytearray(sound)
        broken[offset] ^= 0xFF
        try:
            extracted(bytes(broken), DOCUMENT)
        except Unextractable as error:
            assert error.code in CODES  # noqa: PT017
    assert error_of(sound[:-30], DOCUMENT) == UNREADABLE
    assert error_of(zip_of({"other.txt": "x"}), DOCUMENT) == UNREADABLE


def test_memory_is_limited() -> None:
    texts = "<si><t>x</t></si>" * 600_000
    book = zip_of({"xl/workbook.xml": "<a/>", "xl/sharedStrings.xml": f"<sst>{texts}</sst>"})
    try:
        extracted(book, DOCUMENT, cpu_s=2)
    except Unextractable as error:
        assert error.code in (TOO_COMPLEX, TOO_LARGE)  # noqa: PT017
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 2 * MEMORY_BYTES


def test_the_process_knows_nothing_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its environment, with keys in it, nor its files, nor the rest of the service."""
    monkeypatch.setenv("SECRET_KEY", "not for documents")
    seen: list[dict[str, object]] = []
    real = subprocess.Popen

    def spy(*args: object, **kwargs: object) -> object:
        seen.append(kwargs)
        return real(*args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", spy)
    assert text_of(b"text", TEXT) == "text"
    assert "SECRET_KEY" not in seen[0]["env"]  # type: ignore[operator]


def test_no_process_is_left() -> None:
    for content, kind in ((b"text", TEXT), (b"%PDF-nonsense", PDF)):
        try:
            extracted(content, kind)
        except Unextractable:
            pass
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    commands = [
        Path(f"/proc/{child}/cmdline").read_bytes() for child in children if Path(f"/proc/{child}").exists()
    ]
    assert not [command for command in commands if b"chat_api.documents.child" in command]


def test_types_that_have_a_text() -> None:
    assert kind_of("application/pdf") == PDF
    assert kind_of("text/plain; charset=utf-8") == TEXT
    assert kind_of("application/ld+json") == TEXT
    assert kind_of("text/html") == HTML
    assert kind_of("application/epub+zip") == DOCUMENT
    assert [
        kind_of(name) for name in ("image/png", "image/svg+xml", "audio/mpeg", "application/octet-stream")
    ] == [None] * 4


def test_reading_a_small_document_is_quick() -> None:
    began = resource_cpu()
    for _ in range(5):
        text_of(b"text", TEXT)
    assert (resource_cpu() - began) / 5 < 0.5
