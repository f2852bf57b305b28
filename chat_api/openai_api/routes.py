"""Endpoints for OpenAI's clients: /v1. Their documents are OpenAI's; docs/openai.md says what is different."""

from functools import partial
from typing import Any

from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.routing import BaseConverter

from ..attachments.links import address_maker
from ..auth import guard
from ..completions import service as completions
from ..completions.answering import (
    REPLAYED,
    caller_reader,
    event_response,
    require_first_sign,
    require_reply,
    start_unstored,
)
from ..completions.records import KeptAs, with_files
from ..completions.registry import run_registry
from ..completions.turns import Turn
from ..conversations.service import has_conversation
from ..errors import add_envelope
from ..idempotency import accepts_key, attempt_of_request, has_key
from ..idempotency.retries import Attempt
from ..server.slots import release_request_slot, stream_slots
from ..user_llm_configs import service as user_llm_configs
from ..web.json_body import json_object
from ..web.own_address import own_address
from ..web.responses import entity_response, json_response
from . import chat_requests, ids
from .chat_replies import ChatChunks, completion_object, files_of
from .conversations import routes as conversations
from .embeddings import routes as embeddings
from .errors import RequestRefused, envelope, unknown_conversation
from .files import routes as files
from .ids import CONVERSATION, written
from .model_lists import ModelLists, model_objects
from .model_names import Target, asked, resolve
from .paths import MergedSlashes
from .responses import routes as responses
from .retrying import PATIENCE_S, attach_or_start_and_commit
from .starting import IN_CONVERSATION, ON_DISCONNECT, conversation_of, fingerprint_of, start_once
from .stored_chats import routes as stored_chats
from .stored_chats.objects import asked_text

PREFIX = "/v1"
# what clients ask for whose base URL lacks the prefix, and what is in no API of chats; with what they may be told
UNPREFIXED = ("models", "completions", "embeddings", "responses", "conversations", "files")
NO_PREFIX = "Nothing exists at this URL. The base URL of OpenAI's clients ends with /v1 here."
LEGACY = "The legacy endpoint for completions of a prompt is not offered: use /v1/chat/completions."

_model_lists = ModelLists()

blp = Blueprint("openai", __name__, url_prefix=PREFIX)
blp.before_request(guard.require_caller)


class OpenAiIdConverter(BaseConverter):
    """An id in a path, as `ids.read` reads it."""

    regex = ids.PATTERN

    def to_python(self, value: str) -> str:
        return ids.read(value) or value


class OpenAiItemIdConverter(BaseConverter):
    """The id of an item in a path, as it was written."""

    regex = ids.ITEM_PATTERN


def init_app(app: Flask) -> None:
    """Register the endpoints, and let all errors below them have OpenAI's envelope."""
    app.url_map.converters["openai_id"] = OpenAiIdConverter
    app.url_map.converters["openai_item"] = OpenAiItemIdConverter
    app.register_blueprint(blp)
    for part in (conversations, embeddings, files, responses, stored_chats):
        app.register_blueprint(part.blp)
    for name in UNPREFIXED:
        app.add_url_rule(f"/{name}", "openai_unprefixed", refuse_unprefixed, methods=["GET", "POST"])
        app.add_url_rule(f"/{name}/<path:rest>", "openai_unprefixed", methods=["GET", "POST"])
    add_envelope(app, PREFIX, envelope)
    app.wsgi_app = MergedSlashes(app.wsgi_app, PREFIX)  # type: ignore[method-assign]


def refuse_unprefixed(rest: str = "") -> Response:
    """Say what is missing to a client whose base URL lacks the prefix."""
    said = envelope(404, "not_found", NO_PREFIX, {})
    return json_response(said.body, said.status)


@blp.post("/completions")
def create_legacy_completion() -> Response:
    """Say what to use instead of completions of a prompt."""
    raise RequestRefused(LEGACY, param=None, code="not_found", status=404)


@blp.get("/models")
def list_openai_models() -> Response:
    """List the models of all providers that the caller has a key for."""
    return entity_response({"object": "list", "data": _models()})


@blp.get("/models/<path:name>")
def get_openai_model(name: str) -> Response:
    """Get one of these models, by any of its names."""
    name, models = name.rstrip("/"), {model["id"]: model for model in _models()}
    found = models.get(name)
    if found is None:
        target = resolve(name, user_llm_configs.list_choices(user_id=guard.caller().user_id))
        found = models.get(f"{target.choice.prefix}/{target.model}")
    if found is not None:
        return entity_response({**found, "id": name})
    raise RequestRefused("There is no such model.", param="model", code="model_not_found", status=404)


@blp.post("/chat/completions")
@accepts_key
def create_chat_completion() -> Response:
    """Answer messages, streamed or as a whole; see docs/openai.md."""
    user_id = guard.caller().user_id
    attempt = attempt_of_request()
    with json_object(is_small=False, may_have_files=True, note=attempt.note_body, mends_text=True) as body:
        is_streamed = chat_requests.flag_of(body, "stream", False)
        is_stored = chat_requests.flag_of(body, "store", current_app.config["CHAT_COMPLETIONS_STORE"])
        has_usage = chat_requests.wants_usage(body)
        name, turn = _turn(user_id, body, attempt)
        fingerprint = fingerprint_of(body)
        del body
    cancels = request.headers.get(ON_DISCONNECT, "continue" if has_key() else "cancel") == "cancel"
    cancels = cancels or not is_stored  # nobody could read it any more
    with stream_slots().take(user_id) as slot:
        if is_stored:
            _require_conversation(turn)
            completion_id, run, is_new = attach_or_start_and_commit(
                turn, partial(start_once, body=fingerprint)
            )
        else:
            completion_id, run, is_new = *start_unstored(_without_conversation(turn)), True
        del turn, fingerprint
        address = address_maker(own_address(request))
        encoding = ChatChunks(model=name, has_usage=has_usage, address=address)
        reader = caller_reader(
            completion_id,
            cancels=cancels,
            encoding=encoding,
            patience_s=PATIENCE_S if attempt.counts and is_stored and not is_streamed else 0.0,
            is_followed=lambda: attempt.is_followed(completion_id),
        )
        headers = {}
        if is_stored:
            conversation_id = conversation_of(user_id, completion_id, run)
            headers[IN_CONVERSATION] = written(CONVERSATION, conversation_id)
        if not is_new:
            headers[REPLAYED] = "true"
        if not is_streamed:
            release_request_slot()
            stored = reader.wait(run)
            require_reply(stored)
            if is_stored:
                stored = with_files(stored)
            made = completion_object(stored.to_json(), model=name, files=files_of(stored), address=address)
            return json_response(made, 200, headers)
        if run is not None:
            require_first_sign(run)
        return event_response(reader.stream(run), slot, headers)


def _models() -> list[dict[str, Any]]:
    user_id = guard.caller().user_id
    choices = user_llm_configs.list_choices(user_id=user_id)
    endpoints = {
        choice.provider_id: completions.open_endpoint(user_id=user_id, provider_id=choice.provider_id)
        for choice in choices
    }
    with stream_slots().take(user_id):
        release_request_slot()
        lists = _model_lists.read(run_registry().client, user_id, endpoints)
    return model_objects(choices, lists)


def _turn(user_id: str, body: dict[str, Any], attempt: Attempt) -> tuple[str, Turn]:
    """The name of the model as it was asked for, and what is asked. Raises RequestRefused."""
    name = asked(body)
    drafts, metadata = chat_requests.drafts_of(body), chat_requests.metadata_of(body)
    target = resolve(name, user_llm_configs.list_choices(user_id=user_id))
    return name, Turn(
        user_id=user_id,
        provider_id=target.choice.provider_id,
        model=target.model,
        drafts=drafts,
        parameters=_parameters(body, target),
        conversation_id=_named_conversation(body),
        source="chat",
        goes_back=True,
        metadata=metadata,
        asked=asked_text(name, input_count=len(drafts)),
        kept_as=KeptAs(metadata, is_listed=body.get("store") is True),
        attempt=attempt,
    )


def _parameters(body: dict[str, Any], target: Target) -> dict[str, Any]:
    return chat_requests.parameters_of(body, takes_extras=target.choice.api_format == "openai")


def _named_conversation(body: dict[str, Any]) -> str | None:
    """The conversation that a request names, in the header or the body. Raises RequestRefused."""
    return chat_requests.conversation_of(request.headers.get(IN_CONVERSATION) or body.get("conversation"))


def _require_conversation(turn: Turn) -> None:
    """Raise RequestRefused where the conversation that is named is not one of the user's."""
    named = turn.conversation_id
    if named is not None and not has_conversation(user_id=turn.user_id, conversation_id=named):
        raise unknown_conversation()


def _without_conversation(turn: Turn) -> Turn:
    """The turn, of which nothing is to be stored. Raises RequestRefused where something has to be."""
    if turn.conversation_id is not None or has_key():
        raise RequestRefused(
            "store: false can't be used with a conversation or an Idempotency-Key.",
            param="store",
            code="unsupported_parameter",
        )
    return turn
