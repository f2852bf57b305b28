"""An upload from its first byte to its response: received, stored, and committed once."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from flask import Response

from ..auth import guard
from ..database.session import db
from ..errors import ApiError
from ..files import service as files
from ..files.store import storage_needed
from ..idempotency import check_key, create_once
from ..server.slots import while_waiting
from ..web.request_body import end_reads, require_valid_caller
from . import service
from .slots import upload_slots
from .uploads import ReceivedForm, announced_bytes, fingerprint_of, received_form

FieldsOf = Callable[[Mapping[str, str]], dict[str, Any]]
"""What the other fields of a form say, as arguments of `service.create_upload`; raises for what is wrong."""
Respond = Callable[[dict[str, Any]], Response]


def receive_once(*, fields_of: FieldsOf, respond: Respond, takes_others: bool = False) -> Response:
    """Receive a file and store it. While it arrives, neither a slot for requests nor a transaction is held.

    `takes_others` lets a form have fields that nobody knows.
    """
    check_key()
    user_id = guard.caller().user_id
    service.require_room_for(user_id=user_id, size_bytes=announced_bytes())
    with upload_slots.take(user_id), ExitStack() as stack:
        end_reads()
        with while_waiting():
            form = stack.enter_context(received_form(takes_others=takes_others))
            require_valid_caller()
            fields = fields_of(form.fields)
            with storage_needed():
                kept = files.keep_bytes(user_id=user_id, incoming=form.incoming, upload=form.upload)
        return _store(user_id, form, kept, fields, respond)


def _store(
    user_id: str, form: ReceivedForm, kept: files.Kept, fields: Mapping[str, Any], respond: Respond
) -> Response:
    stored_as: list[str] = []

    def create() -> dict[str, Any]:
        attachment, file_id = service.create_upload(
            user_id=user_id, kept=kept, file_name=form.file_name, **fields
        )
        stored_as.append(file_id)
        return attachment

    try:
        response, _ = create_once(fingerprint_of(form), create, respond)
    except ApiError:
        if not stored_as:  # refused before anything was written; where a commit has failed, nobody knows
            db.session.rollback()
            files.discard_bytes(user_id=user_id, kept=kept)
        raise
    files.discard_bytes(user_id=user_id, kept=kept, file_id=stored_as[0] if stored_as else None)
    return response
