"""Documents made by hand, as small as they can be."""

import io
import zipfile


def zip_of(files: dict[str, bytes | str]) -> bytes:
    """A zip with these files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def docx_of(*paragraphs: str) -> bytes:
    """A document of a word processor."""
    text = "".join(f"<w:p><w:r><w:t>{paragraph}</w:t></w:r></w:p>" for paragraph in paragraphs)
    body = f'<w:document xmlns:w="{_NAMESPACE}"><w:body>{text}</w:body></w:document>'
    return zip_of({"[Content_Types].xml": _CONTENT_TYPES, "word/document.xml": body})


_NAMESPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_CONTENT_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override '
    'PartName="/word/document.xml" '
    f'ContentType="{_WORD}.main+xml"/>'
    "</Types>"
)


def pdf_of(*pages: str, contents: tuple[bytes, ...] = ()) -> bytes:
    """A PDF with a line of text on each page; or pages with these drawing commands."""
    streams = contents or tuple(f"BT /F1 12 Tf 20 100 Td ({page}) Tj ET".encode("latin-1") for page in pages)
    objects: list[bytes] = []
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(streams)))
    objects.append(b"<< /Type /Catalog /Pages 2 0 R >>")
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(streams)} >>".encode())
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for number, stream in enumerate(streams):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    made = io.BytesIO(b"")
    made.write(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(made.tell())
        made.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    table_at = made.tell()
    made.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    for offset in offsets:
        made.write(b"%010d 00000 n \n" % offset)
    made.write(
        b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table_at)
    )
    return made.getvalue()
