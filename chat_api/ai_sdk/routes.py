"""Endpoints for `useChat` of the AI SDK, below AI_SDK_PATH. docs/ai-sdk.md says what they do."""

from typing import Any

from flask import Blueprint, Flask, Response, request
from werkzeug.routing import BaseConverter

from ..attachments import links, sendable
from ..auth import guard
from ..completions import finding
from ..completions.answering import caller_reader, event_response, require_first_sign, start_once
from ..completions.cancelling import cancel_and_commit
from ..completions.records import StoredCompletion
from ..completions.registry import run_registry
from ..completions.run import Run
from ..completions.turns import Turn, placed_at
from ..conversations.models import MAX_EXTERNAL_ID
from ..database.session import db
from ..errors import Conflict, NotFound, add_envelope
from ..idempotency import accepts_key
from ..messages.answers import answers_up_to, read_path
from ..openai_api.chat_requests import parameters_of
from ..openai_api.model_names import resolve
from ..server.slots import stream_slots
from ..user_llm_configs import service as user_llm_configs
from ..user_llm_configs.service import Choice
from ..web.json_body import json_object
from ..web.own_address import own_address
from ..web.pagination import MAX_POSITION
from ..web.responses import entity_response, json_response, no_content
from .errors import RequestRefused, sentence
from .placing import Placed, find_chat, place
from .requests import Sent, read_request
from .ui_messages import Known, Message, groups_of, id_of, ui_message
from .ui_streams import HEADER, UiChunks

SOURCE = "ui"
MAX_SHOWN = 1000  # messages of a chat, the newest
BUSY = "A reply is in progress in this chat: wait for it, or stop it."

blp = Blueprint("ai_sdk", __name__)
blp.before_request(guard.require_caller)


class ChatIdConverter(BaseConverter):
    """What a client calls a chat."""

    regex = rf"[^/\x00]{{1,{MAX_EXTERNAL_ID}}}"
    part_isolating = True  # no slash is in it, so that one at the end is none of the id


def init_app(app: Flask) -> None:
    """Register the endpoints, unless there is no path for them; errors below it are sentences."""
    app.url_map.converters["chat_id"] = ChatIdConverter
    if prefix := app.config["AI_SDK_PATH"]:
        app.register_blueprint(blp, url_prefix=prefix)
        add_envelope(app, prefix, sentence)


@blp.post("")
@accepts_key
def send_ui_message() -> Response:
    """Answer a message, or results of tools, or answer again, as a UI message stream."""
    user_id = guard.caller().user_id
    with json_object(is_small=False, may_have_files=True, mends_text=True) as body:
        sent = read_request(body)
        fingerprint = {**body}
        del body
    with stream_slots().take(user_id) as slot:
        try:
            placed = place(user_id=user_id, sent=sent)
            completion_id, run = _start(user_id, sent, placed, fingerprint)
        except Conflict as error:
            # the same request, or the first one of this chat, may have come just before
            if type(error) is not Conflict:
                raise
            db.session.rollback()
            placed = place(user_id=user_id, sent=sent)
            if placed.completion_id is None:
                raise Conflict(BUSY) from None
            completion_id, run = placed.completion_id, run_registry().find(user_id, placed.completion_id)
        del sent, fingerprint
        encoding = UiChunks(message_id=placed.message_id, before=placed.before, known=_known(user_id))
        if run is not None:
            require_first_sign(run)
        return event_response(caller_reader(completion_id, encoding=encoding).stream(run), slot, HEADER)


@blp.get("/<chat_id:chat_id>")
def get_chat(chat_id: str) -> Response:
    """Get a chat, with what has been said in it; without the reply in progress, which its stream has whole."""
    user_id = guard.caller().user_id
    chat = find_chat(user_id=user_id, chat_id=chat_id)
    if chat is None:
        raise NotFound("chat")
    running = finding.find_running(user_id=user_id, conversation_id=chat["id"])
    shown = _shown(user_id, chat["id"], running)
    return entity_response(
        {
            "id": chat_id,
            "title": chat["title"],
            "messages": shown,
            "activeStreamId": running and str(running.row["id"]),
        }
    )


@blp.get("/<chat_id:chat_id>/stream")
def resume_ui_stream(chat_id: str) -> Response:
    """Follow the reply in progress of a chat, from the beginning of its message; 204 where there is none."""
    user_id = guard.caller().user_id
    chat = find_chat(user_id=user_id, chat_id=chat_id)
    running = chat and finding.find_running(user_id=user_id, conversation_id=chat["id"])
    if not running:
        return no_content()
    with stream_slots().take(user_id) as slot:
        earlier = _earlier(user_id, running)
        encoding = UiChunks(
            message_id=id_of(earlier[0]) if earlier else None, earlier=earlier, known=_known(user_id, earlier)
        )
        completion_id = str(running.row["id"])
        run = run_registry().find(user_id, completion_id)
        return event_response(caller_reader(completion_id, encoding=encoding).stream(run), slot, HEADER)


@blp.post("/<chat_id:chat_id>/stop")
def stop_ui_stream(chat_id: str) -> Response:
    """Cancel the reply in progress of a chat, or only the one that is named."""
    user_id = guard.caller().user_id
    named = None
    if request.content_length or "Transfer-Encoding" in request.headers:
        with json_object(is_small=False) as body:
            named = body.get("activeStreamId")
    chat = find_chat(user_id=user_id, chat_id=chat_id)
    running = chat and finding.find_running(user_id=user_id, conversation_id=chat["id"])
    if running and named in (None, str(running.row["id"])):
        cancel_and_commit(user_id=user_id, completion_id=str(running.row["id"]))
    return json_response({"success": True})


def _start(user_id: str, sent: Sent, placed: Placed, fingerprint: dict[str, Any]) -> tuple[str, Run | None]:
    """Start a reply, or find the one that there is already; its id, and its run where it is written here."""
    if placed.completion_id is not None:
        return placed.completion_id, run_registry().find(user_id, placed.completion_id)
    choice, model = _target(user_id, sent.model, placed.conversation_id)
    turn = Turn(
        user_id=user_id,
        provider_id=choice.provider_id,
        model=model,
        drafts=placed.drafts,
        parameters=parameters_of(sent.options, takes_extras=choice.api_format == "openai"),
        conversation_id=placed.conversation_id,
        source=SOURCE,
        external_id=None if placed.conversation_id else sent.chat_id,
        is_alone=True,
        instructions=sent.system,
    )
    completion_id, run, _ = start_once(placed_at(turn=turn, place=placed.place), fingerprint)
    return completion_id, run


def _target(user_id: str, name: str | None, conversation_id: str | None) -> tuple[Choice, str]:
    """The provider and model that are asked: those that are named, else those of the chat, else the only ones."""
    choices = user_llm_configs.list_choices(user_id=user_id)
    if name is not None:
        return resolve(name, choices)
    last = conversation_id and finding.find_last(user_id=user_id, conversation_id=conversation_id)
    if last:
        for choice in choices:
            if choice.provider_id == last.provider_id:
                return choice, last.model
    if len(choices) == 1 and choices[0].default_model is not None:
        return choices[0], choices[0].default_model
    raise RequestRefused("model is missing, and there is not one default model: name one, as provider/model.")


def _shown(user_id: str, conversation_id: str, running: StoredCompletion | None) -> list[dict[str, Any]]:
    """The UIMessages of a chat, without the one that a reply in progress goes on with."""
    messages: list[Message] = []
    for message in read_path(user_id=user_id, conversation_id=conversation_id, before=MAX_POSITION):
        if len(messages) == MAX_SHOWN:
            break
        messages.append(message)
    groups = list(groups_of(reversed(messages)))
    if running is not None:
        answered = str(running.row["parent_id"])
        groups = [
            group
            for group in groups
            if group[0]["role"] == "user" or all(message["id"] != answered for message in group)
        ]
    known = _known(user_id, [message for group in groups for message in group])
    return [ui_message(group, known) for group in groups]


def _earlier(user_id: str, running: StoredCompletion) -> list[Message]:
    """What there is already of the UIMessage that a reply in progress goes on with."""
    row = running.row
    scope = {"user_id": user_id, "conversation_id": str(row["conversation_id"])}
    return list(answers_up_to(**scope, message_id=str(row["parent_id"])))


def _known(user_id: str, messages: list[Message] | None = None) -> Known:
    """What belongs to these messages, and how files are addressed."""
    address = links.address_maker(own_address(request))
    if not messages:
        return Known(address=address)
    parents = {str(message["parent_id"]) for message in messages if message["role"] == "assistant"}
    return Known(
        answers=finding.answers_by_message(user_id=user_id, parent_ids=sorted(parents - {"None"})),
        files=sendable.list_of_messages(
            user_id=user_id, message_ids=[str(message["id"]) for message in messages]
        ),
        address=address,
    )
