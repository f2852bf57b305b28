"""Endpoints of completions: /chat/completions, the list below a conversation, and what a provider offers."""

from collections.abc import Callable, Iterator
from typing import Any

from flask import Response, current_app, request

from ..auth import guard
from ..database.session import db
from ..errors import InvalidInput, ProviderFailed
from ..idempotency import check_key, commits_once
from ..server.slots import Slot, release_request_slot, stream_slots
from ..web.blueprint import Blueprint
from ..web.pagination import IdPageSchema, Page, add_links
from ..web.responses import entity_response, json_response, no_content
from . import documentation, event_stream, service
from .records import StartedCompletion, StoredCompletion
from .registry import runs
from .run import BY_USER, Run
from .schemas import (
    CompletionSchema,
    CreateCompletionSchema,
    DryRunSchema,
    EventsQuerySchema,
    ModelSchema,
)
from .service import CompletionRequest

REPLAYED = "Idempotency-Replayed"
CANCEL_WAIT_S = 3.0  # a cancelled reply has ended before so long; the answer shows it then

blp = Blueprint(
    "completions",
    __name__,
    url_prefix="/chat",
    description="Completions: a provider's replies in a conversation, streamed and stored.",
)
blp.before_request(guard.require_caller)


@blp.route("/conversations/<id:conversation_id>/completions", methods=["GET"])
@blp.arguments(IdPageSchema, location="query")
@blp.response(200, CompletionSchema(many=True))
def list_completions(query: dict[str, Any], conversation_id: str) -> Response:
    """List the completions of a conversation, oldest first."""
    page = Page(**query)
    found, more = service.list_completions(
        user_id=guard.caller().user_id, conversation_id=conversation_id, page=page
    )
    ends = (found[0]["id"], found[-1]["id"]) if found else (None, None)
    return add_links(json_response(found), page, first=ends[0], last=ends[1], more=more)


@blp.route("/completions", methods=["POST"])
@blp.arguments(DryRunSchema, location="query")
@blp.arguments(CreateCompletionSchema)
@blp.response(201, CompletionSchema)
@blp.doc(**documentation.CREATE)
def create_completion(body: dict[str, Any], query: dict[str, Any]) -> Response:
    """Let a provider reply in a conversation; streamed, or when it has ended."""
    user_id = guard.caller().user_id
    wants_stream, cancels = body["stream"], body["on_disconnect"] == "cancel"
    asked = CompletionRequest(
        user_id, **{name: body[name] for name in CompletionRequest.__slots__ if name in body}
    )
    if query["dry_run"]:
        return _preview(asked)
    with stream_slots().take(user_id) as slot:
        completion_id, run, headers = _start_once(asked, body)
        reader = event_stream.Reader(
            runs(), user_id=user_id, completion_id=completion_id, has_left=_watch_client(), cancels=cancels
        )
        if wants_stream:
            response = _event_stream(reader.stream(run, None), slot)
        else:
            release_request_slot()
            response = _answer(reader.wait(run))
        response.headers.update(headers)
        return response


@blp.route("/completions/<id:completion_id>", methods=["GET"])
@blp.response(200, CompletionSchema)
def get_completion(completion_id: str) -> Response:
    """Get a completion; of one in progress, what is there of the reply."""
    user_id = guard.caller().user_id
    run = runs().find(user_id, completion_id)
    if run is not None:
        return entity_response(run.shown())
    return entity_response(service.show(user_id=user_id, completion_id=completion_id))


@blp.route("/completions/<id:completion_id>/events", methods=["GET"])
@blp.arguments(EventsQuerySchema, location="query")
@blp.response(200)
@blp.doc(**documentation.EVENTS)
def get_events(query: dict[str, str], completion_id: str) -> Response:
    """Follow a completion from its beginning, or behind `Last-Event-ID`, to its end; also one that has ended."""
    user_id = guard.caller().user_id
    after = _position(request.headers.get("Last-Event-ID", query.get("after")))
    run = runs().find(user_id, completion_id)
    stored = service.find(user_id=user_id, completion_id=completion_id) if run is None else None
    if stored is not None and not stored.in_progress and after == stored.row["last_event_id"]:
        return no_content()
    with stream_slots().take(user_id) as slot:
        reader = event_stream.Reader(
            runs(), user_id=user_id, completion_id=completion_id, after=after, has_left=_watch_client()
        )
        return _event_stream(reader.stream(run, stored), slot)


@blp.route("/completions/<id:completion_id>/cancel", methods=["POST"])
@blp.response(200, CompletionSchema)
def cancel_completion(completion_id: str) -> Response:
    """Stop the provider and keep what came; a completion that has ended stays as it is."""
    user_id = guard.caller().user_id
    run = runs().find(user_id, completion_id)
    if run is not None:
        run.stop(BY_USER)
        run.wait(CANCEL_WAIT_S)
        return json_response(run.shown())
    if service.find(user_id=user_id, completion_id=completion_id).in_progress:
        service.request_cancel(user_id=user_id, completion_id=completion_id)
        event_stream.Reader(runs(), user_id=user_id, completion_id=completion_id).wait(None, CANCEL_WAIT_S)
    return json_response(service.show(user_id=user_id, completion_id=completion_id))


@blp.route("/llm-providers/<id:provider_id>/models", methods=["GET"])
@blp.response(200, ModelSchema(many=True))
def list_models(provider_id: str) -> Response:
    """List the models that a provider offers with the caller's key."""
    user_id = guard.caller().user_id
    endpoint = service.open_endpoint(user_id=user_id, provider_id=provider_id)
    release_request_slot()
    return json_response([{"id": model} for model in runs().list_models(user_id, endpoint)])


def _start_once(asked: CompletionRequest, body: dict[str, Any]) -> tuple[str, Run | None, dict[str, str]]:
    """Start a reply, or find the one that this Idempotency-Key started.

    Its id, its run where it is written here, and headers that tell which of the two it was.
    """
    user_id, registry = asked.user_id, runs()
    with registry.take_slot() as slot:
        started: list[StartedCompletion] = []

        @commits_once
        def promise(body: dict[str, Any]) -> Response:
            reply = service.start(
                asked, worker_id=registry.worker_id, running_limit=current_app.config["MAX_STREAMS_PER_USER"]
            )
            started.append(reply)
            return json_response({"id": reply.id}, 201)

        promised = promise(body)
        if started:  # committed: from here a crash leaves a visible trace
            return started[0].id, registry.start(started[0], slot), {}
    # finding the first answer left a transaction open; on SQLite it would keep the reply from being stored
    db.session.rollback()
    completion_id: str = promised.get_json()["id"]
    headers = {REPLAYED: promised.headers[REPLAYED]}
    return completion_id, registry.find(user_id, completion_id), headers


def _preview(asked: CompletionRequest) -> Response:
    check_key()
    endpoint, chat, context = service.preview(asked)
    sent = runs().client.describe(endpoint, chat)
    return json_response(
        {"request": sent, "omitted_messages": context.omitted, "prompt_tokens": context.tokens}
    )


def _watch_client() -> Callable[[], bool]:
    return event_stream.watch(request.environ.get("gunicorn.socket"))


def _event_stream(events: Iterator[bytes], slot: Slot) -> Response:
    response = current_app.response_class(
        events, content_type=event_stream.CONTENT_TYPE, headers=event_stream.HEADERS
    )
    return slot.until_closed(response)


def _answer(stored: StoredCompletion) -> Response:
    """A reply that has ended: 201, or the provider's failure where nothing came of it."""
    if stored.row["status"] == "failed" and stored.problem is not None:
        raise ProviderFailed(stored.problem, completion_id=stored.row["id"])
    location = f"{request.script_root}/chat/completions/{stored.row['id']}"
    return json_response(stored.shown(), 201, {"Location": location})


def _position(text: str | None) -> int:
    position = event_stream.position_of(text)
    if position is None:
        raise InvalidInput({"Last-Event-ID": ["Not an id of an event: a whole number."]})
    return position
