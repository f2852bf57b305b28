"""Endpoints of conversations: /v1/conversations. docs/openai.md says what is different from OpenAI."""

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, request

from ...auth import guard
from ...completions.turn_files import stored_and_commit
from ...completions.turns import Draft, drafts_with_named_files
from ...conversations import service as conversations
from ...conversations.titles import set_missing_title, title_in
from ...database.bulk import with_rests
from ...database.session import db
from ...errors import NotFound
from ...idempotency import accepts_key, attempt_of_request, create_once
from ...messages import deletion
from ...messages import service as messages
from ...web.json_body import json_object
from ...web.own_address import own_address
from ...web.pagination import Page
from ...web.responses import entity_response, json_response
from .. import ids
from ..addresses import picture_address
from ..chat_requests import metadata_of
from ..compactions import open_summary
from ..errors import RequestRefused
from ..items_in import drafts_of, references_in
from ..pages import list_object, query_values, read_page
from ..stored_items import find_items, items_of
from .deleting import delete_item
from .items import all_words_of, append, get_item, list_items
from .objects import MAX_ITEMS, changes_of, conversation_object, deleted_object, filters_of

SOURCE = "responses"
MAX_PAGE, PAGE = 100, 20

blp = Blueprint("openai_conversations", __name__, url_prefix="/v1/conversations")
blp.before_request(guard.require_caller)


@blp.get("")
def list_openai_conversations() -> Response:
    """List conversations by when they were used last; OpenAI has no such list."""
    user_id, query = guard.caller().user_id, read_page(default_limit=PAGE, max_limit=MAX_PAGE)
    after = None
    if query.after is not None:
        after = conversations.find_recency(user_id=user_id, conversation_id=_conversation_id(query.after))
    # newest first is the order of the list itself
    page = (
        Page(query.limit, after=after)
        if query.is_newest_first
        else Page(query.limit, before=after or conversations.LEAST_RECENT)
    )
    listing = conversations.list_conversations(user_id=user_id, page=page, **filters_of(query_values()))
    found = listing.items if query.is_newest_first else listing.items[::-1]
    has_more = listing.has_more_after if query.is_newest_first else listing.has_more_before
    return json_response(list_object([conversation_object(each) for each in found], has_more=has_more))


@blp.post("")
@accepts_key
def create_openai_conversation() -> Response:
    """Create a conversation, with items or without."""
    user_id = guard.caller().user_id
    attempt = attempt_of_request()
    with json_object(is_small=False, may_have_files=True, note=attempt.note_body, mends_text=True) as body:
        metadata = metadata_of(body)
        drafts = _drafts(user_id, body) if body.get("items") is not None else []
        fingerprint = {**body}
        del body
    words = all_words_of(drafts)
    earlier = attempt.find_earlier_and_commit()
    if earlier is not None and conversations.has_conversation(user_id=user_id, conversation_id=earlier[0]):
        found = conversations.get_conversation(user_id=user_id, conversation_id=earlier[0])
        return json_response(conversation_object(found))

    def create() -> dict[str, Any]:
        conversation = conversations.create_conversation(
            user_id=user_id, title=title_in(metadata), metadata=metadata, source=SOURCE
        )
        own = {"user_id": user_id, "conversation_id": conversation.id}
        append(**own, drafts=ready, words=words)
        _set_title(conversation.id, drafts)
        attempt.remember(conversation.id)
        return conversations.get_conversation(**own)

    with stored_and_commit(user_id=user_id, drafts=drafts) as ready:
        response, _ = create_once(
            fingerprint, create, lambda created: json_response(conversation_object(created))
        )
    return response


@blp.get("/<openai_id:conversation_id>")
def get_openai_conversation(conversation_id: str) -> Response:
    """Get a conversation."""
    own = {"user_id": guard.caller().user_id, "conversation_id": conversation_id}
    return entity_response(conversation_object(conversations.get_conversation(**own)))


@blp.post("/<openai_id:conversation_id>")
def update_openai_conversation(conversation_id: str) -> Response:
    """Replace the metadata of a conversation."""
    own = {"user_id": guard.caller().user_id, "conversation_id": conversation_id}
    with json_object(is_small=False) as body:
        changes = changes_of(body)
    conversations.lock_conversation(**own)
    conversations.update_conversation(**own, changes=changes)
    updated = conversation_object(conversations.get_conversation(**own))
    db.session.commit()
    return json_response(updated)


@blp.delete("/<openai_id:conversation_id>")
def delete_openai_conversation(conversation_id: str) -> Response:
    """Delete a conversation with all that is in it."""
    user_id = guard.caller().user_id
    for _ in with_rests(deletion.delete_conversation(user_id=user_id, conversation_id=conversation_id)):
        db.session.commit()
    return json_response(deleted_object(conversation_id))


@blp.get("/<openai_id:conversation_id>/items")
def list_openai_items(conversation_id: str) -> Response:
    """List the items of a conversation."""
    query = read_page(default_limit=PAGE, max_limit=MAX_PAGE)
    own = {"user_id": guard.caller().user_id, "conversation_id": conversation_id}
    found, has_more = list_items(**own, query=query, address=picture_address(own_address(request)))
    return json_response(list_object(found, has_more=has_more))


@blp.post("/<openai_id:conversation_id>/items")
@accepts_key
def create_openai_items(conversation_id: str) -> Response:
    """Append items to a conversation."""
    user_id = guard.caller().user_id
    own = {"user_id": user_id, "conversation_id": conversation_id}
    attempt = attempt_of_request()
    with json_object(is_small=False, may_have_files=True, note=attempt.note_body, mends_text=True) as body:
        if body.get("items") is None:
            raise RequestRefused("items is missing.", param="items", code="missing_required_parameter")
        drafts = _drafts(user_id, body)
        fingerprint = {**body}
        del body
    words = all_words_of(drafts)

    def create() -> list[str]:
        made = append(**own, drafts=ready, words=words)
        _set_title(conversation_id, drafts)
        ids_made = [str(message["id"]) for message in made]
        if ids_made:
            attempt.remember(*ids_made)
        return ids_made

    conversations.require_conversation(**own)
    message_ids = attempt.find_earlier_and_commit()
    if message_ids is None:
        # what is stored for a key is which messages these are: they may be large
        with stored_and_commit(user_id=user_id, drafts=drafts) as ready:
            answer, _ = create_once(fingerprint, create, lambda made: json_response({"message_ids": made}))
        message_ids = answer.get_json()["message_ids"]
    stored = messages.list_by_ids(user_id=user_id, message_ids=message_ids)
    items = items_of(user_id=user_id, stored=stored, address=picture_address(own_address(request)))
    return json_response(list_object(items, has_more=False))


@blp.get("/<openai_id:conversation_id>/items/<openai_item:item_id>")
def get_openai_item(conversation_id: str, item_id: str) -> Response:
    """Get an item of a conversation."""
    own = {"user_id": guard.caller().user_id, "conversation_id": conversation_id}
    return entity_response(get_item(**own, named=item_id, address=picture_address(own_address(request))).item)


@blp.delete("/<openai_id:conversation_id>/items/<openai_item:item_id>")
def delete_openai_item(conversation_id: str, item_id: str) -> Response:
    """Delete an item of a conversation; the answer is the conversation."""
    user_id = guard.caller().user_id
    for _ in with_rests(delete_item(user_id=user_id, conversation_id=conversation_id, named=item_id)):
        db.session.commit()
    db.session.rollback()
    found = conversations.get_conversation(user_id=user_id, conversation_id=conversation_id)
    return json_response(conversation_object(found))


def _drafts(user_id: str, body: dict[str, Any]) -> Sequence[Draft]:
    """The messages that the items of a request come to. Raises RequestRefused."""
    items = body["items"]
    if not isinstance(items, list):
        raise RequestRefused(f"items must be a list of at most {MAX_ITEMS} items.", param="items")
    referred = find_items(user_id=user_id, wanted=references_in(items, "items"))
    drafts = drafts_of(
        items,
        "items",
        referred=referred,
        open_compaction=lambda sealed: open_summary(user_id=user_id, sealed=sealed),
        most=MAX_ITEMS,
        takes_files=True,
    )
    return drafts_with_named_files(user_id=user_id, drafts=drafts)


def _set_title(conversation_id: str, drafts: Sequence[Draft]) -> None:
    """Give a conversation without a title the first words of the user."""
    user_id = guard.caller().user_id
    said = next((draft.content for draft in drafts if draft.role == "user" and draft.content), None)
    if said is not None:
        set_missing_title(user_id=user_id, conversation_id=conversation_id, text=said)


def _conversation_id(named: str) -> str:
    id_ = ids.read(named)
    if id_ is None:
        raise NotFound("conversation")
    return id_
