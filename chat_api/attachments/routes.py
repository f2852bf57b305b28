"""Endpoints of attachments: /chat/attachments and the list below a message."""

from typing import Any

from flask import Response

from ..auth import guard
from ..database.session import db
from ..idempotency import commits_once
from ..web.blueprint import Blueprint
from ..web.pagination import Page, PositionPageSchema, listing_response, position_of
from ..web.responses import location, no_content, require_match
from . import service
from .models import Attachment
from .schemas import AttachmentSchema, CreateAttachmentSchema

blp = Blueprint(
    "attachments", __name__, url_prefix="/chat", description="Attachments: files referenced by a message."
)
blp.before_request(guard.require_caller)


@blp.route("/messages/<id:message_id>/attachments", methods=["GET"])
@blp.arguments(PositionPageSchema, location="query")
@blp.response(200, AttachmentSchema(many=True))
def list_attachments(query: dict[str, Any], message_id: str) -> Response:
    """List the attachments of a message, oldest first.

    At most `limit` of them; the header `Link` leads to the next page.
    """
    page = Page(**query)
    attachments = service.list_attachments(user_id=guard.caller().user_id, message_id=message_id, page=page)
    return listing_response(page, attachments, cursor=position_of, schema=AttachmentSchema(many=True))


@blp.route("/attachments", methods=["POST"])
@blp.links("get_attachment", "delete_attachment", attachment_id="id")
@blp.links("list_attachments", message_id="message_id")
@blp.arguments(CreateAttachmentSchema)
@commits_once
@blp.response(201, AttachmentSchema)
def create_attachment(body: dict[str, str]) -> Any:
    """Attach a file, by the client's own path or URL, to a message.

    The service stores the path or URL, and never opens it.
    """
    attachment = service.create_attachment(user_id=guard.caller().user_id, **body)
    return attachment, location(f"/chat/attachments/{attachment.id}")


@blp.route("/attachments/<id:attachment_id>", methods=["GET"])
@blp.response(200, AttachmentSchema)
def get_attachment(attachment_id: str) -> Attachment:
    """Get one of the caller's attachments.

    A client that has it already sends its ETag as `If-None-Match` and gets 304.
    """
    return service.get_attachment(user_id=guard.caller().user_id, attachment_id=attachment_id)


@blp.route("/attachments/<id:attachment_id>", methods=["DELETE"])
@blp.response(204)
def delete_attachment(attachment_id: str) -> Response:
    """Delete an attachment. Its message stays.

    The file itself is the client's; nothing happens to it.
    """
    attachment = service.get_attachment(
        user_id=guard.caller().user_id, attachment_id=attachment_id, lock=True
    )
    require_match(AttachmentSchema().dump(attachment))
    service.delete_attachment(attachment=attachment)
    db.session.commit()
    return no_content()
