"""Endpoints of files: /v1/files."""

from flask import Blueprint, Response

from ...attachments import downloads
from ...attachments import service as attachments
from ...attachments.upload import receive_once
from ...attachments.uploads import is_form
from ...auth import guard
from ...database.session import db
from ...errors import NotFound
from ...web.responses import entity_response, json_response
from .. import ids
from ..errors import RequestRefused
from ..pages import list_object, query_values, read_page
from .objects import DEFAULT_PURPOSE, fields_of, file_object, known_purpose

MAX_FILES = 10_000  # that a page may be asked for

blp = Blueprint("openai_files", __name__, url_prefix="/v1/files")
blp.before_request(guard.require_caller)


@blp.get("")
def list_files() -> Response:
    """List the uploads that belong to no message."""
    user_id, query = guard.caller().user_id, read_page(default_limit=MAX_FILES, max_limit=MAX_FILES)
    purpose = query_values().get("purpose")
    after = None
    if query.after is not None:
        after = ids.read(query.after)
        if after is None:
            raise NotFound("file")
        attachments.get_attachment(user_id=user_id, attachment_id=after)
    listing = attachments.list_drafts(
        user_id=user_id,
        page=query.by_id(after),
        purpose=known_purpose(purpose) if purpose else None,
        default_purpose=DEFAULT_PURPOSE,
    )
    found, has_more = query.listed(listing)
    return json_response(list_object([file_object(each) for each in found], has_more=has_more))


@blp.post("")
def create_file() -> Response:
    """Store a file that messages can name."""
    if not is_form():
        raise RequestRefused("Send the file as multipart/form-data.", param="file", status=415)
    return receive_once(
        fields_of=fields_of,
        respond=lambda created: json_response(file_object(created)),
        takes_others=True,
    )


@blp.get("/<openai_id:file_id>")
def get_file(file_id: str) -> Response:
    """Get a file."""
    found = attachments.get_attachment(user_id=guard.caller().user_id, attachment_id=file_id)
    return entity_response(file_object(found))


@blp.get("/<openai_id:file_id>/content")
def get_file_content(file_id: str) -> Response:
    """Download a file, or a range of it."""
    content = attachments.get_content(user_id=guard.caller().user_id, attachment_id=file_id)
    return downloads.content_response(content)


@blp.delete("/<openai_id:file_id>")
def delete_file(file_id: str) -> Response:
    """Delete a file; the messages that named it keep what they have of it."""
    own = {"user_id": guard.caller().user_id, "attachment_id": file_id}
    deleted = file_object(attachments.lock_attachment(**own))
    attachments.delete_attachment(**own)
    db.session.commit()
    return json_response({"id": deleted["id"], "object": "file", "deleted": True})
