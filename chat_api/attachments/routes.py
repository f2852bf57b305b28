"""Endpoints of attachments: /chat/attachments and the list below a message."""

from typing import Any

from flask import Response

from ..auth import guard
from ..idempotency import commits_once
from ..web.blueprint import Blueprint
from ..web.pagination import Page, PositionPageSchema, listing_response, position_of
from . import service
from .models import Attachment
from .schemas import AttachmentSchema, CreateAttachmentSchema

blp = Blueprint(
    "attachments", __name__, url_prefix="/chat", description="Attachments: what hangs on a message."
)
blp.before_request(guard.require_caller)


@blp.route("/messages/<id:message_id>/attachments", methods=["GET"])
@blp.arguments(PositionPageSchema, location="query")
@blp.response(200, AttachmentSchema(many=True))
def list_attachments(query: dict[str, Any], message_id: str) -> Response:
    """List the attachments of a message, oldest first."""
    page = Page(**query)
    attachments = service.list_attachments(user_id=guard.caller().user_id, message_id=message_id, page=page)
    return listing_response(page, attachments, cursor=position_of, schema=AttachmentSchema(many=True))


@blp.route("/attachments", methods=["POST"])
@blp.links("list_attachments", message_id="message_id")
@blp.arguments(CreateAttachmentSchema)
@commits_once
@blp.response(201, AttachmentSchema)
def create_attachment(body: dict[str, str]) -> Attachment:
    """Attach a file, by the client's own path or URL, to a message."""
    return service.create_attachment(user_id=guard.caller().user_id, **body)
