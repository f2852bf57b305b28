"""Endpoints of stored chat completions: /v1/chat/completions, but for creating one."""

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, request

from ...attachments import sendable
from ...attachments.links import address_maker
from ...auth import guard
from ...completions import listing
from ...completions import service as completions
from ...completions.cancelling import cancel_and_commit
from ...completions.records import StoredCompletion, find_record, with_files
from ...completions.removal import delete_reply, is_deleted
from ...database.bulk import with_rests
from ...database.session import db
from ...errors import NotFound
from ...messages.leading import list_leading
from ...web.json_body import json_object
from ...web.own_address import own_address
from ...web.responses import json_response
from .. import ids
from ..chat_requests import required_metadata_of
from ..file_links import ShownFile, shown_link
from ..pages import list_object, page_object, query_values, read_page
from ..starting import IN_CONVERSATION
from .objects import filters_of, input_count_of, message_objects, stored_object

MAX_PAGE, PAGE = 100, 20

blp = Blueprint("openai_stored_chats", __name__, url_prefix="/v1/chat/completions")
blp.before_request(guard.require_caller)


@blp.get("")
def list_chat_completions() -> Response:
    """List the chat completions whose requests said that they are to be stored; with `all=true` all of them."""
    user_id = guard.caller().user_id
    query = read_page(default_limit=PAGE, max_limit=MAX_PAGE, default_order="asc")
    filters = filters_of(query_values())
    after = None
    if query.after is not None:
        after = ids.read(query.after)
        if after is None or find_record(user_id=user_id, completion_id=after) is None:
            raise NotFound("completion")
    found, has_more = query.listed(listing.list_kept(user_id=user_id, page=query.by_id(after), **filters))
    return json_response(list_object([_object(each) for each in found], has_more=has_more))


@blp.get("/<openai_id:completion_id>")
def get_chat_completion(completion_id: str) -> Response:
    """Get a completion that was stored, with what has come of it."""
    return _response(_find(completion_id))


@blp.post("/<openai_id:completion_id>")
def update_chat_completion(completion_id: str) -> Response:
    """Replace the metadata of a completion."""
    own = {"user_id": guard.caller().user_id, "completion_id": completion_id}
    with json_object(is_small=False) as body:
        metadata = required_metadata_of(body)
    _find(completion_id)
    db.session.connection()  # begins the transaction
    listing.change_metadata(**own, metadata=metadata)
    db.session.commit()
    return _response(_find(completion_id))


@blp.delete("/<openai_id:completion_id>")
def delete_chat_completion(completion_id: str) -> Response:
    """Delete a completion, and its message where nothing answers that; one in progress is cancelled first."""
    own = {"user_id": guard.caller().user_id, "completion_id": completion_id}
    _find(completion_id)
    cancel_and_commit(**own)
    for _ in with_rests(delete_reply(stored=completions.find_completion(**own))):
        db.session.commit()
    id_ = ids.written(ids.CHAT_COMPLETION, completion_id)
    return json_response({"object": "chat.completion.deleted", "id": id_, "deleted": True})


@blp.get("/<openai_id:completion_id>/messages")
def list_chat_completion_messages(completion_id: str) -> Response:
    """List the messages of a completion's request, the first one first where nothing else is asked for."""
    user_id, stored = guard.caller().user_id, _find(completion_id)
    query = read_page(default_limit=PAGE, max_limit=MAX_PAGE, default_order="asc")
    messages = list_leading(user_id=user_id, message_id=stored.row["parent_id"], count=input_count_of(stored))
    found = message_objects(
        completion_id,
        messages,
        _files(user_id, [str(each["id"]) for each in messages]),
        address_maker(own_address(request)),
    )
    return json_response(page_object(query, found, find=_message_among, kind="message"))


def _message_among(messages: Sequence[dict[str, Any]], named: str) -> dict[str, Any] | None:
    return next((message for message in messages if message["id"] == named), None)


def _find(completion_id: str) -> StoredCompletion:
    """The caller's completion. Raises NotFound."""
    stored = completions.find_completion(user_id=guard.caller().user_id, completion_id=completion_id)
    if is_deleted(stored.row):
        raise NotFound("completion")
    return stored


def _response(stored: StoredCompletion) -> Response:
    headers = {IN_CONVERSATION: ids.written(ids.CONVERSATION, str(stored.row["conversation_id"]))}
    return json_response(_object(stored), 200, headers)


def _object(stored: StoredCompletion) -> dict[str, Any]:
    own = {"user_id": stored.row["user_id"], "completion_id": stored.row["id"]}
    if stored.in_progress:
        return stored_object(stored, completions.get_completion(**own), address_maker(own_address(request)))
    whole = with_files(stored)
    return stored_object(whole, whole.to_json(), address_maker(own_address(request)))


def _files(user_id: str, message_ids: list[str]) -> dict[str, dict[str, ShownFile]]:
    """The files of messages, by the messages' ids and the attachments'."""
    found = sendable.list_of_messages(user_id=user_id, message_ids=message_ids)
    return {
        message_id: {
            each.id: ShownFile(
                each.id,
                each.file_type,
                each.file_name,
                shown_link(each.file_name) if each.name is None else None,
            )
            for each in attachments
        }
        for message_id, attachments in found.items()
    }
