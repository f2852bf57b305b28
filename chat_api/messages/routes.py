"""Endpoints of messages: /chat/messages and the list below a conversation."""

from typing import Any

from flask import Response

from ..auth import guard
from ..blueprint import Blueprint
from ..idempotency import commits_once
from ..pagination import Page, PositionPageSchema, add_links
from ..responses import json_response
from . import service
from .schemas import CreateMessageSchema, MessageSchema

blp = Blueprint(
    "messages",
    __name__,
    url_prefix="/chat",
    description="Messages: what was said in a conversation, in order.",
)
blp.before_request(guard.require_caller)


@blp.route("/conversations/<id:conversation_id>/messages", methods=["GET"])
@blp.arguments(PositionPageSchema, location="query")
@blp.response(200, MessageSchema(many=True))
def list_messages(query: dict[str, Any], conversation_id: str) -> Response:
    """List the messages of a conversation, oldest first."""
    page = Page(**query)
    messages, more = service.list_messages(
        user_id=guard.caller().user_id, conversation_id=conversation_id, page=page
    )
    ends = (messages[0]["position"], messages[-1]["position"]) if messages else (None, None)
    return add_links(json_response(messages), page, first=ends[0], last=ends[1], more=more)


@blp.route("/messages", methods=["POST"])
@blp.arguments(CreateMessageSchema)
@commits_once
@blp.response(201, MessageSchema)
def create_message(body: dict[str, str]) -> Response:
    """Append a message to a conversation."""
    return json_response(service.append_message(user_id=guard.caller().user_id, **body), 201)
