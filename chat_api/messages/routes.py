"""Endpoints of messages: /chat/messages and the list below a conversation."""

from functools import partial
from typing import Any

from flask import Response

from ..attachments import service as attachments
from ..auth import guard
from ..conversations.service import QUOTAS
from ..database.bulk import with_rests
from ..database.session import db
from ..errors import ApiError
from ..idempotency import LongFields, accepts_key, create_once, has_key
from ..search_index.writer import words_of
from ..web.blueprint import Blueprint
from ..web.pagination import Page, listing_response, position_of
from ..web.responses import entity_response, json_response, location, no_content, require_match
from . import deletion, pages, service
from .long_moves import after_long_moves_and_commit
from .parts import split_content
from .schemas import ALL, CreateMessageSchema, ListMessagesSchema, MessageSchema
from .tool_results import require_call

blp = Blueprint(
    "messages",
    __name__,
    url_prefix="/chat",
    description="Messages of a conversation, in order; they never change.",
)
blp.before_request(guard.require_caller)


def _read_message(user_id: str, message_id: str) -> dict[str, Any]:
    return service.get_message(user_id=user_id, message_id=message_id)


_LONG_FIELDS = LongFields(("content", "tool_calls", "parts"), _read_message)


@blp.route("/conversations/<id:conversation_id>/messages", methods=["GET"])
@blp.arguments(ListMessagesSchema, location="query")
@blp.response(200, MessageSchema(many=True))
def list_messages(query: dict[str, Any], conversation_id: str) -> Response:
    """List the messages on the active path of a conversation, or of all branches, in order of position.

    At most `limit` of them; the header `Link` leads to the next page. A new page can also begin at a message in
    the middle, with `around`.
    """
    scope: dict[str, Any] = {"user_id": guard.caller().user_id, "conversation_id": conversation_id}
    scope["all_branches"], around = query.pop("branch") == ALL, query.pop("around", None)
    page = Page(**query)
    if around is not None:
        messages = pages.list_around(**scope, message_id=around, limit=page.limit)
    else:
        messages = pages.list_messages(**scope, page=page)
    return listing_response(page, messages, cursor=position_of)


@blp.route("/messages", methods=["POST"])
@blp.links("get_message", "delete_message", "list_attachments", message_id="id")
@blp.links("get_conversation", "list_messages", conversation_id="conversation_id")
@blp.links("create_message", body={"conversation_id": "conversation_id", "parent_id": "id"})
@blp.links("create_attachment", body={"message_id": "id"})
@blp.arguments(CreateMessageSchema)
@accepts_key
@blp.response(201, MessageSchema)
def create_message(body: dict[str, Any]) -> Response:
    """Append a message to a conversation: at the end of its active path, or as a reply to an earlier message.

    No provider is called: `POST /chat/completions` requests a reply. Messages never change; an edit is another
    message with the same `parent_id`.
    """
    body = split_content(body)
    if attachment_ids := body.get("attachment_ids"):
        append: Any = partial(_append_with_attachments, attachment_ids)
    else:
        append = service.append_message if has_key() else service.append_message_and_commit
    user_id, content = guard.caller().user_id, body["content"]
    # before the transaction that a key begins
    words = words_of(content)
    refusal = _refusal_of_result(user_id, body)
    fields = service.stored_fields(body=body)

    def create() -> dict[str, Any]:
        if refusal is not None:
            raise refusal
        QUOTAS.require_room(0, 1, service.size_of(fields=fields), user_id=user_id)
        return append(user_id=user_id, words=words, **fields)

    # around the transaction of a key: after the moves the key is looked up again, as another process may have used it
    response, _ = after_long_moves_and_commit(
        lambda _: create_once(body, create, _created_response, long_fields=_LONG_FIELDS)
    )
    return response


def _append_with_attachments(attachment_ids: list[str], *, user_id: str, **fields: Any) -> dict[str, Any]:
    """Append a message and give it its attachments, in the transaction of the session."""
    drafts = attachments.lock_drafts(user_id=user_id, attachment_ids=attachment_ids)
    message = service.append_message(
        user_id=user_id, file_hashes=[draft.sha256 for draft in drafts], **fields
    )
    attachments.attach_drafts(user_id=user_id, message_id=message["id"], drafts=drafts)
    return message


def _refusal_of_result(user_id: str, body: dict[str, Any]) -> ApiError | None:
    """Why a tool's result can't be stored, if it is one: a new request is refused, a repeated one gets its response."""
    if "tool_call_id" not in body:
        return None
    scope = {name: body[name] for name in ("conversation_id", "parent_id", "tool_call_id") if name in body}
    try:
        require_call(user_id=user_id, **scope)
    except ApiError as error:
        return error
    return None


def _created_response(message: dict[str, Any]) -> Response:
    return json_response(message, 201, location(f"/chat/messages/{message['id']}"))


@blp.route("/messages/<id:message_id>", methods=["GET"])
@blp.response(200, MessageSchema)
def get_message(message_id: str) -> Response:
    """Get one of the caller's messages, on any branch.

    Messages never change, so a copy of it stays valid until it is deleted.
    """
    return entity_response(service.get_message(user_id=guard.caller().user_id, message_id=message_id))


@blp.route("/messages/<id:message_id>", methods=["DELETE"])
@blp.response(204)
def delete_message(message_id: str) -> Response:
    """Delete a message with all its descendants, their attachments and completions.

    If it was on the active path, its parent becomes the end of that path. A long branch is deleted in several
    transactions, the newest messages first: after 503, or without a response, send the request again.
    """
    own = {"user_id": guard.caller().user_id, "message_id": message_id}
    for _ in with_rests(deletion.delete_message(**own, check=require_match)):
        db.session.commit()
    return no_content()
