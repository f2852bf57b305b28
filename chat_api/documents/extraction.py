"""Taking the text out of a document in a process of its own, which has so much time, memory and output and no more."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import CODES, TOO_COMPLEX, TOO_SLOW, Unextractable
from .limits import CPU_S, MAX_TEXT_BYTES, WALL_S

_PACKAGE = Path(__file__).resolve().parent
# chat_api itself is not imported: that would take longer than reading most documents
_CODE = """
import sys, types
sys.dont_write_bytecode = True
package = types.ModuleType("chat_api")
package.__path__ = [sys.argv.pop(1)]
sys.modules["chat_api"] = package
from chat_api.documents.child import main
main()
"""
_MAX_HEAD_BYTES = 1000

_DOCUMENTS = {
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.template",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.template",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.openxmlformats-officedocument.presentationml.slideshow",
    "application/vnd.ms-word.document.macroenabled.12",
    "application/vnd.ms-excel.sheet.macroenabled.12",
    "application/vnd.ms-powerpoint.presentation.macroenabled.12",
    "application/vnd.ms-word.template.macroenabled.12",
    "application/vnd.ms-excel.template.macroenabled.12",
    "application/vnd.ms-powerpoint.template.macroenabled.12",
    "application/vnd.ms-powerpoint.slideshow.macroenabled.12",
    "application/vnd.openxmlformats-officedocument.presentationml.template",
    "application/vnd.oasis.opendocument.text",
    "application/vnd.oasis.opendocument.text-template",
    "application/vnd.oasis.opendocument.spreadsheet",
    "application/vnd.oasis.opendocument.spreadsheet-template",
    "application/vnd.oasis.opendocument.presentation",
    "application/vnd.oasis.opendocument.presentation-template",
    "application/epub+zip",
}
# which one of these may be, too
ZIPS = {"application/zip", "application/x-zip-compressed"}
_TEXTS = {
    "application/json", "application/x-ndjson", "application/jsonl", "application/xml", "application/javascript",
    "application/x-javascript", "application/ecmascript", "application/typescript", "application/x-sh",
    "application/x-shellscript", "application/x-python", "application/x-httpd-php", "application/sql",
    "application/toml", "application/yaml", "application/x-yaml", "application/x-tex", "application/x-latex",
    "application/x-subrip", "application/csv", "application/graphql", "application/x-ruby", "application/x-perl",
}  # fmt: skip
PDF, DOCUMENT, HTML, TEXT = "pdf", "document", "html", "text"


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a document; `is_cut` where it has more."""

    text: str
    is_cut: bool = False


def kind_of(file_type: str) -> str | None:
    """How the text of files of this type is taken out; None for types that have none."""
    name = file_type.partition(";")[0].strip().lower()
    if name in ("application/pdf", "application/x-pdf"):
        return PDF
    if name in ("text/html", "application/xhtml+xml"):
        return HTML
    if name in _DOCUMENTS or name in ZIPS:
        return DOCUMENT
    is_image = name.startswith("image/")
    is_text = name.startswith("text/") or name in _TEXTS or name.endswith(("+json", "+xml", "+yaml"))
    return TEXT if is_text and not is_image else None


def extract(file: IO[bytes], kind: str, *, cpu_s: int = CPU_S, wall_s: float = WALL_S) -> Extracted:
    """The text of an open file, which must be one of the system's. Raises Unextractable.

    Whatever the file does, this ends within `wall_s`, and this process has no more than the text in its memory. What
    there is of the text after `cpu_s` of CPU time counts.
    """
    file.seek(0)
    process = subprocess.Popen(  # noqa: S603 - no part of the command comes from outside
        [sys.executable, "-I", "-c", _CODE, str(_PACKAGE.parent), kind, str(cpu_s)],
        stdin=file.fileno(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"LC_ALL": "C.UTF-8", "PATH": os.defpath, "MALLOC_ARENA_MAX": "2"},
        start_new_session=True,
    )
    timer = threading.Timer(wall_s, process.kill)
    timer.start()
    try:
        assert process.stdout is not None  # noqa: S101 - by PIPE
        head = process.stdout.readline(_MAX_HEAD_BYTES)
        text = process.stdout.read(MAX_TEXT_BYTES + 1)
    finally:
        process.kill()
        process.wait()
        timer.cancel()
        if process.stdout is not None:
            process.stdout.close()
    return _result(head, text, returncode=process.returncode)


def _result(head: bytes, text: bytes, *, returncode: int) -> Extracted:
    try:
        fields = json.loads(head)
        if not isinstance(fields, dict) or len(text) > MAX_TEXT_BYTES:
            raise ValueError("Not what the process writes.")
    except ValueError:  # it was killed, by a limit or by the timer
        raise Unextractable(TOO_SLOW if returncode < 0 else TOO_COMPLEX) from None
    code = fields.get("error")
    if code is not None:
        raise Unextractable(code if code in CODES else TOO_COMPLEX)
    try:
        return Extracted(text.decode(), fields.get("is_cut") is True)
    except UnicodeDecodeError:
        raise Unextractable(TOO_COMPLEX) from None
