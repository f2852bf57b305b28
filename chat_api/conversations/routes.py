"""Endpoints of conversations: /chat/conversations."""

from typing import Any

from flask import Response

from ..auth import guard
from ..database.bulk import with_rests
from ..database.session import db
from ..idempotency import commits_once
from ..messages import active_path, deletion
from ..messages.long_moves import after_long_moves_and_commit
from ..web.blueprint import Blueprint
from ..web.pagination import Page, listing_response
from ..web.responses import changed_response, entity_response, location, no_content, require_match
from . import service
from .schemas import (
    ConversationSchema,
    CreateConversationSchema,
    ListConversationsSchema,
    UpdateConversationSchema,
)

blp = Blueprint(
    "conversations",
    __name__,
    url_prefix="/chat/conversations",
    description="Conversations: threads of messages.",
)
blp.before_request(guard.require_caller)


@blp.route("", methods=["GET"])
@blp.arguments(ListConversationsSchema, location="query")
@blp.response(200, ConversationSchema(many=True))
def list_conversations(query: dict[str, Any]) -> Response:
    """List the caller's conversations, most recently used first.

    At most `limit` of them; the header `Link` leads to the next page. Archived ones are in a list of their own.
    """
    page = Page(**{name: query.pop(name) for name in ("limit", "after", "before") if name in query})
    conversations = service.list_conversations(user_id=guard.caller().user_id, page=page, **query)
    return listing_response(
        page, conversations, cursor=lambda conversation: service.recency(conversation=conversation)
    )


@blp.route("", methods=["POST"])
@blp.links(
    "get_conversation",
    "update_conversation",
    "delete_conversation",
    "list_messages",
    "list_completions",
    conversation_id="id",
)
@blp.links("create_message", "create_completion", body={"conversation_id": "id"})
@blp.arguments(CreateConversationSchema)
@commits_once(check=guard.require_owner)
@blp.response(201, ConversationSchema)
def create_conversation(body: dict[str, Any]) -> Any:
    """Create a conversation.

    Without a `title`, it gets the first words of the user's first message when the first reply is stored.
    """
    conversation = service.create_conversation(**body)
    return conversation, location(f"/chat/conversations/{conversation.id}")


@blp.route("/<id:conversation_id>", methods=["GET"])
@blp.response(200, ConversationSchema)
def get_conversation(conversation_id: str) -> Response:
    """Get one of the caller's conversations.

    Its messages are a list of their own; `message_count` says how many there are, on all branches.
    """
    # a hot path: plain values go to JSON as they are, in the shape of ConversationSchema
    return entity_response(
        service.get_conversation(user_id=guard.caller().user_id, conversation_id=conversation_id)
    )


@blp.route("/<id:conversation_id>", methods=["PATCH"])
@blp.arguments(UpdateConversationSchema)
@blp.response(200, ConversationSchema)
def update_conversation(changes: dict[str, Any], conversation_id: str) -> Response:
    """Rename, archive or pin a conversation, or switch its active path to another message.

    A path of many messages may be moved in several transactions: first back to the fork, then forward. After
    503, or without a response, send the request again.
    """
    own = {"user_id": guard.caller().user_id, "conversation_id": conversation_id}

    def update(has_moved: bool) -> dict[str, Any]:
        conversation = service.lock_conversation(**own)
        if not has_moved:  # a long move changes the entity before
            require_match(conversation)
        if "active_leaf_id" in changes:
            active_path.set_active_leaf(**own, message_id=changes["active_leaf_id"])
        if others := {name: value for name, value in changes.items() if name != "active_leaf_id"}:
            service.update_conversation(**own, changes=others)
        return service.get_conversation(**own)

    updated = after_long_moves_and_commit(update)
    db.session.commit()
    return changed_response(updated)


@blp.route("/<id:conversation_id>", methods=["DELETE"])
@blp.response(204)
def delete_conversation(conversation_id: str) -> Response:
    """Delete a conversation with all its messages, their attachments and completions.

    It is gone for every reader at once. The content of a long one is deleted in several transactions: after 503, or
    without a response, send the request again.
    """
    own = {"user_id": guard.caller().user_id, "conversation_id": conversation_id}
    for _ in with_rests(deletion.delete_conversation(**own, check=require_match)):
        db.session.commit()
    return no_content()
