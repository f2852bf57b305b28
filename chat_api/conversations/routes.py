"""Endpoints of conversations: /chat/conversations."""

from typing import Any

from flask import Response, request

from ..auth import guard
from ..blueprint import Blueprint
from ..idempotency import commits_once
from ..responses import entity_response
from . import service
from .schemas import ConversationSchema, CreateConversationSchema

blp = Blueprint(
    "conversations",
    __name__,
    url_prefix="/chat/conversations",
    description="Conversations: what messages belong to.",
)
blp.before_request(guard.require_caller)


@blp.route("", methods=["POST"])
@blp.arguments(CreateConversationSchema)
@commits_once
@blp.response(201, ConversationSchema)
def create_conversation(body: dict[str, str]) -> Any:
    """Begin a conversation."""
    guard.caller().owner(body["user_id"])
    conversation = service.create_conversation(**body)
    return conversation, {"Location": f"{request.script_root}/chat/conversations/{conversation.id}"}


@blp.route("/<id:conversation_id>", methods=["GET"])
@blp.response(200, ConversationSchema)
def get_conversation(conversation_id: str) -> Response:
    """Get one of the caller's conversations."""
    # a hot path: plain values go to JSON as they are, in the shape of ConversationSchema
    return entity_response(
        service.get_conversation(user_id=guard.caller().user_id, conversation_id=conversation_id)
    )
