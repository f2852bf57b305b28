"""Endpoints of the transfer: /chat/export and /chat/import.

The views import the service: its 30 modules take 20 ms, for which the first transfer can wait better than each start.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

from flask import Flask, Response, current_app

from ..auth import guard
from ..database.columns import now
from ..database.session import db
from ..idempotency import check_key
from ..server.slots import release_request_slot, stream_slots
from ..web.blueprint import Blueprint
from ..web.request_body import end_reads, require_valid_caller
from ..web.responses import json_response
from . import documentation
from .report_schemas import ImportReportSchema
from .slots import UPLOAD_WAIT_S, transfer_slots, upload_slots
from .upload import received_file

CHECK_TOKEN_EVERY_S = 2.0

blp = Blueprint(
    "transfer",
    __name__,
    url_prefix="/chat",
    description="Export and import of everything that a user owns, as one file.",
)
blp.before_request(guard.require_caller)


@blp.route("/export", methods=["GET"])
@blp.response(200)
@blp.doc(**documentation.EXPORT)
def export_all() -> Response:
    """Export everything that the caller owns: conversations with all branches, attachments, completions, providers.

    Passwords, tokens and API keys are not exported, and neither are the contents of attachments: those are in the zip.
    """
    from . import service

    return _export(service.export_all, "application/x-ndjson", "ndjson")


@blp.route("/export/zip", methods=["GET"])
@blp.response(200)
@blp.doc(**documentation.EXPORT_ZIP)
def export_zip() -> Response:
    """Export everything that the caller owns with the contents of attachments, as a zip.

    It contains the lines of `GET /chat/export` as `export.ndjson`, each content once as `files/<sha256>`, and in
    `missing-files.ndjson` the contents that could not be read.
    """
    from . import service

    return _export(service.export_zip, "application/zip", "zip")


def _export(write: Callable[[str], Iterator[bytes]], content_type: str, extension: str) -> Response:
    """An export that is sent while it is made."""
    user_id = guard.caller().user_id
    with transfer_slots.take(user_id) as slot, stream_slots().take(user_id) as stream_slot:
        chunks = write(user_id)
        first = next(chunks)  # what goes wrong before anything is sent can still be answered
        response = current_app.response_class(
            _in_app_context(current_app._get_current_object(), guard.later_check(), first, chunks),  # type: ignore[attr-defined]
            content_type=content_type,
            headers={
                "Content-Disposition": f'attachment; filename="chat-export-{now():%Y-%m-%d}.{extension}"'
            },
        )
        return slot.until_closed(stream_slot.until_closed(response))


@blp.route("/import", methods=["POST"])
@blp.doc(**documentation.IMPORT)
@blp.response(200, ImportReportSchema)
def import_all() -> Response:
    """Import an export. Importing the same file again changes nothing.

    Each new conversation is stored completely, or not at all if a part of it is broken. A conversation that exists
    already gets what it lacks from the file, and the file's title and flags if the file is newer. Ids, times, order
    and branches are restored; the owner is the caller, whoever exported the file.
    """
    from . import service

    check_key()
    user_id = guard.caller().user_id
    transfer_slots.take(user_id).release()  # who would get none afterwards need not send the file
    with upload_slots.take(user_id) as upload_slot:
        release_request_slot()
        end_reads()
        with received_file() as file:
            require_valid_caller()
            with transfer_slots.take(user_id, wait_s=UPLOAD_WAIT_S), stream_slots().take(user_id):
                upload_slot.release()
                report, steps = service.import_file(user_id=user_id, file=file)
                with closing(steps):
                    for _ in steps:  # a conversation each, or several
                        db.session.commit()
            return json_response(report.to_json())


def _in_app_context(
    app: Flask, check_token: Callable[[], None], first: bytes, chunks: Iterator[bytes]
) -> Iterator[bytes]:
    """The chunks, each made within the application's context: the request is over by then.

    Raises InvalidToken, which breaks the response off, once the token was revoked.
    """
    chunk: bytes | None = first
    checked_at = time.monotonic()
    while chunk is not None:
        yield chunk
        if time.monotonic() - checked_at >= CHECK_TOKEN_EVERY_S:
            check_token()
            checked_at = time.monotonic()
        with app.app_context():
            chunk = next(chunks, None)
