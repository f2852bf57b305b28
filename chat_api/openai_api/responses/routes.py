"""Endpoints of responses: /v1/responses. docs/openai.md says what is different from OpenAI."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from flask import Blueprint, Response, request

from ...auth import guard
from ...completions import event_stream
from ...completions import service as completions
from ...completions.answering import (
    REPLAYED,
    caller_reader,
    event_response,
    require_first_sign,
    require_reply,
    start_unstored,
)
from ...completions.cancelling import cancel_and_commit
from ...completions.removal import delete_reply
from ...completions.unstored import input_tokens
from ...database.bulk import with_rests
from ...database.session import db
from ...idempotency import accepts_key, attempt_of_request, has_key
from ...messages.leading import list_leading
from ...server.slots import release_request_slot, stream_slots
from ...user_llm_configs import service as user_llm_configs
from ...web.blueprint import query_parameters
from ...web.json_body import json_object
from ...web.own_address import own_address
from ...web.responses import json_response
from .. import ids
from ..addresses import picture_address
from ..errors import RequestRefused
from ..items_out import Item, find_item
from ..pages import page_object, read_page
from ..retrying import attach_or_start_and_commit
from ..starting import IN_CONVERSATION, ON_DISCONNECT, conversation_of, start_once
from ..stored_items import items_of
from .asking import asked_for
from .compacting import (
    SUMMARIZE,
    compacted_object,
    to_compact,
    tokens_object,
    unstored,
    with_model,
)
from .events import ResponseEvents
from .finding import current_object, find_response
from .objects import asked_of, erased_of, stored_object

blp = Blueprint("openai_responses", __name__, url_prefix="/v1")
blp.before_request(guard.require_caller)


@blp.post("/responses")
@accepts_key
def create_response() -> Response:
    """Answer items, streamed, as a whole, or in the background; see docs/openai.md."""
    user_id = guard.caller().user_id
    attempt = attempt_of_request()
    with json_object(is_small=False, may_have_files=True, note=attempt.note_body, mends_text=True) as body:
        asked = asked_for(user_id, body, attempt)
        del body
    wanted = asked.request
    if has_key() and not wanted.is_stored:
        raise RequestRefused(
            "store: false can't be used with an Idempotency-Key.", param="store", code="unsupported_parameter"
        )
    leaves = request.headers.get(ON_DISCONNECT, "continue") == "cancel"
    with stream_slots().take(user_id) as slot:
        if wanted.is_stored:
            completion_id, run, is_new = attach_or_start_and_commit(
                asked.turn, partial(start_once, body=asked.fingerprint)
            )
        else:
            completion_id, run, is_new = *start_unstored(asked.turn), True
        del asked
        headers = {} if is_new else {REPLAYED: "true"}
        if wanted.is_stored:
            conversation_id = conversation_of(user_id, completion_id, run)
            headers[IN_CONVERSATION] = ids.written(ids.CONVERSATION, conversation_id)
        if wanted.is_background and not wanted.is_streamed:
            return json_response(current_object(user_id, completion_id, run), 200, headers)
        # of what is not stored nobody could read the rest
        reader = _reader(completion_id, cancels=leaves or not wanted.is_stored)
        if not wanted.is_streamed:
            release_request_slot()
            stored = reader.wait(run)
            require_reply(stored)
            return json_response(stored_object(stored), 200, headers)
        if run is not None and not wanted.is_background:
            require_first_sign(run)
        return event_response(reader.stream(run), slot, headers)


@blp.get("/responses/<openai_id:completion_id>")
def get_response(completion_id: str) -> Response:
    """Get a response as it is now, or its events: all, or those after a number."""
    user_id = guard.caller().user_id
    query = query_parameters()
    run, stored = find_response(user_id, completion_id)
    row = run.completion.to_row() if run is not None else stored.row if stored else {}
    headers = {IN_CONVERSATION: ids.written(ids.CONVERSATION, str(row["conversation_id"]))}
    if query.get("stream", "false").lower() != "true":
        return json_response(current_object(user_id, completion_id, run, stored), 200, headers)
    after = _number(query, "starting_after")
    with stream_slots().take(user_id) as slot:
        erased = erased_of(stored) if stored else None
        reader = _reader(completion_id, after=after, erased=erased)
        return event_response(reader.stream(run, stored), slot, headers)


@blp.delete("/responses/<openai_id:completion_id>")
def delete_response(completion_id: str) -> Response:
    """Delete a response, and its message where nothing answers that; one in progress is cancelled first."""
    user_id = guard.caller().user_id
    find_response(user_id, completion_id)
    cancel_and_commit(user_id=user_id, completion_id=completion_id)
    stored = completions.find_completion(user_id=user_id, completion_id=completion_id)
    for _ in with_rests(delete_reply(stored=stored)):
        db.session.commit()
    return json_response(
        {"id": ids.written(ids.RESPONSE, completion_id), "object": "response", "deleted": True}
    )


@blp.get("/responses/<openai_id:completion_id>/input_items")
def list_input_items(completion_id: str) -> Response:
    """List the items of a response's own input, newest first where nothing else is asked for."""
    user_id = guard.caller().user_id
    page = read_page(default_limit=20, max_limit=100)
    run, stored = find_response(user_id, completion_id)
    row = run.completion.to_row() if run is not None else stored.row if stored else {}
    count = asked_of(row).get("input_count", 1)
    messages = list_leading(user_id=user_id, message_id=row["parent_id"], count=count)
    items = items_of(user_id=user_id, stored=messages, address=picture_address(own_address(request)))
    return json_response(page_object(page, items, find=_item_among, kind="item"))


@blp.post("/responses/<openai_id:completion_id>/cancel")
def cancel_response(completion_id: str) -> Response:
    """Cancel a response and keep what has come of it. One that has ended stays as it is."""
    user_id = guard.caller().user_id
    find_response(user_id, completion_id)
    cancel_and_commit(user_id=user_id, completion_id=completion_id)
    return json_response(current_object(user_id, completion_id, *find_response(user_id, completion_id)))


@blp.post("/responses/input_tokens")
def count_input_tokens() -> Response:
    """Estimate how many tokens the input of a response would have."""
    user_id = guard.caller().user_id
    with json_object(is_small=False, mends_text=True) as body:
        asked = asked_for(user_id, with_model(unstored(body), user_llm_configs.list_choices(user_id=user_id)))
        del body
    return json_response(tokens_object(input_tokens(turn=replace(asked.turn, check=None))))


@blp.post("/responses/compact")
def compact_response() -> Response:
    """Have the model sum up a conversation, for its client to go on with; nothing of it is stored."""
    user_id = guard.caller().user_id
    with json_object(is_small=False, mends_text=True) as body:
        turn = asked_for(user_id, to_compact(body)).turn
        del body
    with stream_slots().take(user_id):
        completion_id, run = start_unstored(replace(turn, drafts=[*turn.drafts, SUMMARIZE]))
        release_request_slot()
        stored = _reader(completion_id, cancels=True).wait(run)
    require_reply(stored)
    return json_response(compacted_object(stored, user_id=user_id))


def _item_among(items: Sequence[Item], named: str) -> Item | None:
    """The item that a client names, of those of several messages."""
    wanted = ids.read_item(named)
    if wanted is None:
        return None
    hexed = wanted.message_id.replace("-", "")
    return find_item([item for item in items if hexed in item["id"]], named)


def _reader(
    completion_id: str, *, cancels: bool = False, after: int = -1, erased: Mapping[str, str] | None = None
) -> event_stream.Reader:
    """The caller's reader of a response, from the beginning: the encoding leaves out what the caller has."""
    return caller_reader(completion_id, cancels=cancels, encoding=ResponseEvents(after, erased))


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "-1")
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 16):
        raise RequestRefused(f"{name} must be a whole number.", param=name)
    return int(text)
