"""The type of an upload is what its content is; a claim that disagrees is refused."""

import io
import zipfile

import pytest

from chat_api.attachments.file_types import OtherContent, type_of
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.uploads import PNG, upload

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + b"\x00" * 20
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>"
MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + b"\x00" * 20
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + b"\x00" * 20
MP3 = b"ID3\x04\x00\x00\x00\x00\x00\x00" + b"\x00" * 20
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 " + b"\x00" * 20
EXE = b"MZ\x90\x00\x03\x00\x00\x00" + b"\x00" * 60
NOISE = bytes(range(1, 256)) * 3
TEXT = b"Some text, with a line\nand another one.\n"


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return file.getvalue()


DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
DOCM = "application/vnd.ms-word.document.macroEnabled.12"
APNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00" * 17 + b"\x00\x00\x00\x08acTL" + b"\x00" * 12 + b"IDAT"
)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600
GERMAN, RUSSIAN, JAPANESE = "Straße;Größe\r\n", "Привет, мир\r\n", "日本語のテキスト\r\n"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PNG, "image/png"), (JPEG, "image/jpeg"), (WEBP, "image/webp"), (b"GIF89a" + b"\x00" * 20, "image/gif"),
        (PDF, "application/pdf"), (b"\n\n" + PDF, "application/pdf"), (WAV, "audio/wav"), (MP3, "audio/mpeg"),
        (MP4, "video/mp4"), (SVG, "image/svg+xml"), (b"<svg><script>1</script></svg>", "image/svg+xml"),
        (b"<!-- a picture --><svg/>", "image/svg+xml"), (HTML, "text/html"), (b"  \n<HTML>", "text/html"),
        (b"\xef\xbb\xbf<script>1</script>", "text/html"), (b"<!-- --><html>", "text/html"),
        (b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'/>", "text/html"),
        (b"<?xml version='1.0'?><a/>", "application/xml"), (TEXT, "text/plain"), ("\u732b".encode(), "text/plain"),
        ("text".encode("utf-16"), "text/plain"), (b"a < b, and 1 <2", "text/plain"),
        (NOISE, "application/octet-stream"),
        (b"text\x00with zeros", "application/octet-stream"), (zipped("a.txt"), "application/zip"),
        (zipped("[Content_Types].xml", "word/document.xml"), DOCX),
    ],
)  # fmt: skip
def test_content_decides(content: bytes, kind: str) -> None:
    assert type_of(content) == kind
    assert type_of(content, claimed="application/octet-stream") == kind
    assert type_of(content, claimed=kind) == kind


@pytest.mark.parametrize(
    ("content", "claimed"),
    [
        (HTML, "image/png"), (SVG, "image/png"), (SVG, "image/jpeg"), (HTML, "application/pdf"), (HTML, "text/plain"),
        (HTML, "image/svg+xml"), (SVG, "text/plain"), (PNG, "image/jpeg"), (PNG, "text/html"), (PNG, "text/plain"),
        (PDF, "image/png"), (PDF, "text/plain"), (TEXT, "image/png"), (TEXT, "application/pdf"), (TEXT, "audio/mpeg"),
        (TEXT, "application/zip"), (NOISE, "image/png"), (NOISE, "audio/wav"), (NOISE, "text/plain"),
        (NOISE, "application/pdf"), (EXE, "image/png"), (EXE, "application/pdf"), (MP4, "image/png"),
        (zipped("a"), "image/png"), (zipped("a"), DOCX), (WAV, "image/webp"), (WEBP, "audio/wav"),
    ],
)  # fmt: skip
def test_claim_that_disagrees_is_refused(content: bytes, claimed: str) -> None:
    with pytest.raises(OtherContent):
        type_of(content, claimed=claimed)


@pytest.mark.parametrize(
    ("content", "claimed", "name", "kind"),
    [
        (JPEG, "image/jpg", "", "image/jpeg"), (WAV, "audio/x-wav", "", "audio/wav"),
        (MP4, "audio/mp4", "", "audio/mp4"), (MP4, "video/quicktime", "", "video/quicktime"),
        (TEXT, "text/csv; charset=utf-8", "", "text/csv"), (TEXT, "text/markdown", "", "text/markdown"),
        (b"{}", "application/json", "", "application/json"), (TEXT, "", "a.csv", "text/csv"),
        (TEXT, "", "a.md", "text/markdown"), (TEXT, "", "a.png", "text/plain"), (TEXT, "", "a.html", "text/plain"),
        (TEXT, "text/x-python", "", "text/x-python"), (TEXT, "application/x-unheard-of", "", "text/plain"),
        (b"<p align=center>README", "text/markdown", "", "text/html"), (b"hello", "text/html", "", "text/html"),
        (NOISE, "application/x-unheard-of", "", "application/octet-stream"), (PNG, "IMAGE/PNG", "", "image/png"),
        (zipped("a"), "application/java-archive", "", "application/zip"),
        (zipped("[Content_Types].xml", "word/document.xml"), "application/zip", "", DOCX),
        (zipped("sword/a.txt"), "application/zip", "", "application/zip"), (APNG, "image/png", "", "image/png"),
        (b"MM\x00*" + b"\x00" * 20, "image/x-nikon-nef", "", "image/tiff"),
        (b"<?xml version='1.0'?><rss/>", "application/rss+xml", "", "application/xml"),
        (b"<?xml version='1.0'?><svg/>", "text/xml", "", "image/svg+xml"),
        (b"<?xml version='1.0'?><rss><html/></rss>", "application/xml", "", "text/html"),
        (b"{\\rtf1 text}", "text/rtf", "", "application/rtf"),
    ],
)  # fmt: skip
def test_claim_that_agrees_says_which_of_them_it_is(
    content: bytes, claimed: str, name: str, kind: str
) -> None:
    assert type_of(content, claimed=claimed, file_name=name) == kind


@pytest.mark.parametrize(
    "text",
    ["BMW is a car", "MZ", "ID3 tags", "SQLite is a database", "8BPS", "BZh", "MSCF", "LZIP", "FWS", "GIF89a", "MThd",
     "βρώμη", "%!TEX program = xelatex", "!<arch>"],
)  # fmt: skip
def test_text_that_begins_like_another_format_is_text(text: str) -> None:
    for claimed in ("", "text/plain"):
        assert type_of(text.encode(), claimed=claimed) == "text/plain"


@pytest.mark.parametrize(
    ("content", "claimed", "name", "kind"),
    [
        (GERMAN.encode("cp1252"), "text/csv", "", "text/csv"), (GERMAN.encode("cp1252"), "", "a.csv", "text/csv"),
        (RUSSIAN.encode("cp1251"), "text/plain", "", "text/plain"),
        (JAPANESE.encode("shift_jis"), "text/plain", "", "text/plain"),
        (GERMAN.encode("utf-16-le"), "text/plain", "", "text/plain"),
        (GERMAN.encode("utf-32"), "text/plain", "", "text/plain"),
        (b"<!doctype html><p>" + GERMAN.encode("cp1252"), "text/html", "", "text/html"),
        (b"<!doctype html><p>" + GERMAN.encode("cp1252"), "", "a.html", "text/html"),
        (b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe4</a>", "text/xml", "", "application/xml"),
        (b"<svg>\xe4</svg>", "text/x-python", "", "image/svg+xml"),
        (GERMAN.encode("cp1252"), "application/vnd.ms-excel", "a.csv", "text/csv"),
    ],
)  # fmt: skip
def test_text_in_an_older_encoding_is_text_where_it_is_called_so(
    content: bytes, claimed: str, name: str, kind: str
) -> None:
    assert type_of(content, claimed=claimed, file_name=name) == kind


def test_older_encodings_hide_no_markup() -> None:
    with pytest.raises(OtherContent):
        type_of(b"<script>1</script>\xe4", claimed="text/plain")
    for text in (GERMAN, "Größe"):
        assert type_of(text.encode("cp1252")) == "application/octet-stream"
    assert type_of("Größe €".encode()[:-1]) == "text/plain"  # as where the beginning of a file ends


@pytest.mark.parametrize(
    ("claimed", "name", "kind"),
    [("application/vnd.ms-excel", "a.csv", "text/csv"), ("video/mp2t", "a", "text/plain"),
     ("video/vnd.dlna.mpeg-tts", "a", "text/plain"), ("audio/x-mod", "go.mod", "text/plain")],
)  # fmt: skip
def test_systems_call_some_texts_by_an_ending_of_another_format(claimed: str, name: str, kind: str) -> None:
    assert type_of(TEXT, claimed=claimed, file_name=name) == kind


@pytest.mark.parametrize(
    ("content", "claimed"),
    [(zipped("word/document.xml"), DOCM), (OLE, "application/msword"), (OLE, "application/vnd.ms-outlook"),
     (OLE, DOCX), (b"PK\x03\x04" + b"\x00" * 26 + b"mimetypeapplication/vnd.oasis.opendocument.text-template",
                  "application/vnd.oasis.opendocument.text-template")],
)  # fmt: skip
def test_office_documents_are_what_they_are_called(content: bytes, claimed: str) -> None:
    assert type_of(content, claimed=claimed) == claimed.lower()


@pytest.mark.parametrize("claimed", [DOCX, DOCM, "application/vnd.ms-excel", "application/pdf"])
def test_office_documents_have_their_containers(claimed: str) -> None:
    for content in (NOISE, zipped("xl/workbook.xml")):
        with pytest.raises(OtherContent):
            type_of(content, claimed=claimed)


def test_a_type_of_any_length_can_be_claimed(ada: Api) -> None:
    for length in (300, 5000):
        assert upload(ada, TEXT, claimed="text/" + "a" * length).get_json()["file_type"] == "text/plain"


def test_a_refused_claim_names_both_and_stores_nothing(ada: Api) -> None:
    problem = assert_problem(upload(ada, HTML, name="cat.png", claimed="image/png"), 400, "file")
    assert problem["errors"]["file"] == ["The content is text/html, not image/png."]


def test_name_decides_nothing_about_what_is_no_text(ada: Api) -> None:
    assert upload(ada, HTML, name="cat.png", claimed="").get_json()["file_type"] == "text/html"
    assert upload(ada, PNG, name="page.html", claimed="").get_json()["file_type"] == "image/png"
