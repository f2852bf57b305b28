"""Exporting all that a user owns, and importing such a file or one of another product."""

import os
import re
from collections.abc import Generator
from contextlib import closing
from functools import partial
from typing import IO, Any, NamedTuple

import orjson
import sqlalchemy as sa
from flask import current_app

from ..conversations.models import IS_VISIBLE, Conversation
from ..database.bulk import with_rests
from ..database.parameters import USER_ID
from ..database.statements import Statement
from ..database.statistics import renew_statistics
from ..errors import Unavailable
from ..server import lifecycle
from .archive import Archive
from .budget import ImportBudget
from .exporter import write_export
from .file_importer import FileImporter
from .formats.known import PRODUCTS
from .formats.ndjson import read_export
from .import_report import ImportReport
from .importer import Importer
from .limits import UnreadableFile, longest_line
from .products import ProductFiles, assets_of
from .records import ATTACHMENT, FILE, MESSAGE, Records
from .zip_export import write_zip

OURS = "chat-api"
# how our own lines begin, whether or not the rest of them can be read
_OUR_LINE = re.compile(rb'\{\s*"type"\s*:')
_HEAD_BYTES = 4096
MANY = 1000  # rows
_GROWN = {
    MESSAGE: ("conversations", "messages"),
    ATTACHMENT: ("attachments",),
    FILE: ("attachment_files", "stored_files"),
}
_BOM, _GZIP = b"\xef\xbb\xbf", b"\x1f\x8b"

Steps = Generator[Any, None, None]

export_all = write_export
export_zip = write_zip
_COUNT = Statement(
    sa.select(sa.func.sum(Conversation.message_count)).where(Conversation.user_id == USER_ID, IS_VISIBLE)
)


def count_messages(*, user_id: str) -> int:
    """How many messages an export will have."""
    row = _COUNT.first(user_id=user_id)
    return int(row[0] or 0) if row else 0


def import_file(*, user_id: str, file: IO[bytes]) -> tuple[ImportReport, Steps]:
    """Begin to import a file of any format. The steps do the rest, each to be committed by the caller,
    who closes them: then nothing is being stored any more.

    Raises UnreadableFile, also by the first step, for what is no export at all.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    budget = ImportBudget(size_bytes)
    report = ImportReport()
    opened = _open(file, size_bytes, budget, report)
    records = budget.spend_on(opened.records, report, whole=report.format != OURS)
    files = FileImporter(user_id=user_id, report=report, archive=opened.archive, folder=opened.folder)
    steps = Importer(user_id=user_id, report=report, files=files).restore(records)
    return report, _until_shutdown(_then_renew_statistics(steps, report))


def _then_renew_statistics(steps: Steps, report: ImportReport) -> Steps:
    """The steps, and more after many rows: the user may have gone from hardly one to very many."""
    with closing(steps):
        yield from steps
    for kind, tables in _GROWN.items():
        if report.imported[kind] >= MANY:
            renew_statistics(*tables)
            yield


def _until_shutdown(steps: Steps) -> Steps:
    """The steps, with rests where there is one writer, and with an early end where the server is shutting down."""
    with closing(steps):
        for step in with_rests(steps):
            yield step
            if lifecycle.is_shutting_down():
                raise Unavailable(
                    "The server is shutting down. Import the file again: what has been stored stays."
                )


def _is_ours(head: bytes) -> bool:
    """Whether a file that begins like this is an export of this service, if a broken one: lines with a `type`."""
    if _OUR_LINE.match(head):
        return True
    try:
        first = orjson.loads(head.partition(b"\n")[0])
    except orjson.JSONDecodeError:
        return False
    return isinstance(first, dict) and "type" in first


class _Opened(NamedTuple):
    """A file that is imported."""

    records: Records
    archive: Archive | None = None
    folder: str = ""  # in the archive


def _open(file: IO[bytes], size_bytes: int, budget: ImportBudget, report: ImportReport) -> _Opened:
    """The records of a file, whose format is judged by its content. Raises UnreadableFile."""
    head = file.read(_HEAD_BYTES)
    file.seek(len(_BOM) if head.startswith(_BOM) else 0)
    text = head.removeprefix(_BOM).lstrip()
    if head.startswith(b"PK"):
        # the operator may import more than a request can send; it unpacks to as much as was exported
        limit = max(current_app.config["MAX_IMPORT_BYTES"], size_bytes)
        return _open_zip(Archive(file, size_bytes=size_bytes, max_bytes=limit), budget, report)
    if text.startswith(b"{") and _is_ours(text):
        return _Opened(_our_records(file, budget, report))
    if head.startswith(_GZIP):
        raise UnreadableFile("It is a gzip file: unpack it, and send what is in it.")
    if not text.startswith((b"[", b"{")):
        raise UnreadableFile(
            f"It is no export of this service, nor one of {PRODUCTS} (a JSON file, or a zip with conversations.json)."
        )
    return _Opened(ProductFiles([file.read], budget=budget, report=report).records())


def _open_zip(archive: Archive, budget: ImportBudget, report: ImportReport) -> _Opened:
    ours = archive.our_lines()
    if ours is not None:
        lines, folder = ours
        return _Opened(_our_records(lines, budget, report), archive, folder)
    files = ProductFiles(
        archive.conversations(), budget=budget, report=report, assets=partial(assets_of, archive)
    )
    return _Opened(files.records(), archive)


def _our_records(lines: IO[bytes], budget: ImportBudget, report: ImportReport) -> Records:
    report.format = OURS
    longest = longest_line(current_app.config["MAX_REPLY_BYTES"])
    return read_export(lines, max_line_bytes=longest, check=budget.check_time)
