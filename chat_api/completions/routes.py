"""Endpoints of completions: /chat/completions, the list below a conversation, and what a provider offers."""

from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Response, current_app, request

from ..auth import guard, tickets
from ..errors import ApiError, InvalidInput, ProviderFailed
from ..idempotency import accepts_key, check_key, has_key
from ..messages.parts import split_content
from ..server.slots import release_request_slot, stream_slots
from ..web.blueprint import Blueprint, query_parameters
from ..web.cors import is_preflight
from ..web.pagination import IdPageSchema, Page, id_of, listing_response
from ..web.responses import entity_response, json_response, location, no_content
from . import cancelling, documentation, event_stream, service
from .answering import REPLAYED, Started, caller_reader, event_response, start_created
from .model_abilities import remember
from .omissions import omissions_to_json
from .records import StartedCompletion, StoredCompletion
from .registry import run_registry
from .schemas import (
    CheckProviderSchema,
    CompletionSchema,
    CreateCompletionSchema,
    DryRunSchema,
    EventsQuerySchema,
    ModelSchema,
    PreviewSchema,
    ProviderCheckSchema,
    TicketSchema,
)
from .service import CompletionRequest

blp = Blueprint(
    "completions",
    __name__,
    url_prefix="/chat",
    description="Completions: a provider's replies in a conversation, streamed and stored.",
)


@blp.before_request
def use_ticket() -> None:
    """A stream of events takes a ticket instead of a token."""
    if request.endpoint != f"{blp.name}.get_events" or "Authorization" in request.headers:
        return
    ticket = query_parameters().get(tickets.PARAMETER)
    if ticket is not None and not is_preflight(request.environ):
        scope = _events_of((request.view_args or {})["completion_id"])
        request.environ[guard.TICKET_CALLER] = tickets.caller_of(ticket, scope)


blp.before_request(guard.require_caller)


def _events_of(completion_id: str) -> str:
    """What a ticket is for."""
    return f"events of {completion_id}"


@blp.route("/conversations/<id:conversation_id>/completions", methods=["GET"])
@blp.arguments(IdPageSchema, location="query")
@blp.response(200, CompletionSchema(many=True))
def list_completions(query: dict[str, Any], conversation_id: str) -> Response:
    """List the completions of a conversation, oldest first.

    At most `limit` of them; the header `Link` leads to the next page. Those that failed are in the list, too.
    """
    page = Page(**query)
    completions = service.list_completions(
        user_id=guard.caller().user_id, conversation_id=conversation_id, page=page
    )
    return listing_response(page, completions, cursor=id_of)


@blp.route("/completions", methods=["POST"])
@blp.problems(502, 504)
@blp.links("get_completion", "get_events", "cancel_completion", completion_id="id")
@blp.links("list_completions", conversation_id="conversation_id")
@blp.arguments(DryRunSchema, location="query", documented=False)
@blp.arguments(CreateCompletionSchema)
@blp.response(201, CompletionSchema)
@blp.doc(**documentation.CREATE)
@accepts_key
def create_completion(body: dict[str, Any], query: dict[str, Any]) -> Response:
    """Request a provider's reply in a conversation, streamed or as a whole."""
    completion_request = _completion_request(body)
    if query["dry_run"]:  # the old way
        return _preview(completion_request)
    if body["background"]:
        return _begin_in_background(completion_request, body)
    with stream_slots().take(completion_request.user_id) as slot:
        completion_id, run, is_new = _start_once(completion_request, body)
        reader = caller_reader(completion_id, cancels=body["on_disconnect"] == "cancel")
        if body["stream"]:
            response = event_response(reader.stream(run), slot)
        else:
            release_request_slot()
            response = _ended_response(reader.wait(run))
        if not is_new:
            response.headers[REPLAYED] = "true"
        return response


@blp.route("/completions/preview", methods=["POST"])
@blp.problems(422)
@blp.arguments(CreateCompletionSchema)
@blp.response(200, PreviewSchema)
def preview_completion(body: dict[str, Any]) -> Response:
    """Show what a completion with this body would send to the provider. Nothing is sent or stored.

    The answer has the whole request, with the API key masked, and says which `parameters` the provider or the model
    does not support.
    """
    return _preview(_completion_request(body))


@blp.route("/completions/<id:completion_id>", methods=["GET"])
@blp.response(200, CompletionSchema)
def get_completion(completion_id: str) -> Response:
    """Get a completion. One in progress has the text that was received so far.

    It can be read at any time, during the reply and after it, on any worker.
    """
    user_id = guard.caller().user_id
    run = run_registry().find(user_id, completion_id)
    if run is not None:
        return entity_response(run.to_json())
    return entity_response(service.get_completion(user_id=user_id, completion_id=completion_id))


@blp.route("/completions/<id:completion_id>/events", methods=["GET"])
@blp.header_parameter(**documentation.LAST_EVENT_ID)
@blp.arguments(EventsQuerySchema, location="query")
@blp.response(200)
@blp.doc(**documentation.EVENTS)
def get_events(query: dict[str, str], completion_id: str) -> Response:
    """Stream a completion's events from the beginning, or after `Last-Event-ID`; also of one that has ended."""
    user_id = guard.caller().user_id
    after = _position(request.headers.get("Last-Event-ID", query.get("after")))
    run = run_registry().find(user_id, completion_id)
    stored = service.find_completion(user_id=user_id, completion_id=completion_id) if run is None else None
    if stored is not None and not stored.in_progress and after == stored.last_event_id:
        return no_content()
    with stream_slots().take(user_id) as slot:
        return event_response(caller_reader(completion_id, after=after).stream(run, stored), slot)


@blp.route("/completions/<id:completion_id>/events/ticket", methods=["POST"])
@blp.response(200, TicketSchema)
def create_ticket(completion_id: str) -> Response:
    """Get a ticket for this completion's events, for an `EventSource`, which can't send a token.

    It is valid for a minute: to begin the stream, and for reconnects in that time.
    """
    user_id = guard.caller().user_id
    if run_registry().find(user_id, completion_id) is None:
        service.find_completion(user_id=user_id, completion_id=completion_id)
    ticket = tickets.make_ticket(_events_of(completion_id))
    url = f"{request.script_root}/chat/completions/{completion_id}/events?{tickets.PARAMETER}={ticket}"
    return json_response({"ticket": ticket, "url": url, "expires_in": tickets.TICKET_S})


@blp.route("/completions/<id:completion_id>/cancel", methods=["POST"])
@blp.response(200, CompletionSchema)
def cancel_completion(completion_id: str) -> Response:
    """Cancel a completion and keep its partial text. One that has ended stays as it is.

    The connection to the provider is closed. The answer is the completion as it ended.
    """
    cancelled = cancelling.cancel_and_commit(user_id=guard.caller().user_id, completion_id=completion_id)
    return json_response(cancelled)


@blp.route("/llm-providers/<id:provider_id>/models", methods=["GET"])
@blp.problems(409, 502, 504)
@blp.response(200, ModelSchema(many=True))
def list_models(provider_id: str) -> Response:
    """List the models that a provider offers for the caller's API key.

    The list is read from the provider for each request; it needs a key if the provider requires one.
    """
    user_id = guard.caller().user_id
    endpoint = service.open_endpoint(user_id=user_id, provider_id=provider_id)
    release_request_slot()
    models = run_registry().list_models(user_id, endpoint)
    remember(user_id, endpoint, models)
    return json_response([model.to_json() for model in models])


@blp.route("/llm-providers/<id:provider_id>/check", methods=["POST"])
@blp.problems(409)
@blp.arguments(CheckProviderSchema, required=False)
@blp.response(200, ProviderCheckSchema)
def check_provider(body: dict[str, Any], provider_id: str) -> Response:
    """Check whether a provider's address, the caller's key and a model work.

    The model is asked for one short reply, and the check ends at its first word; without a model, the provider's list
    of models is read. If something does not work, the answer is still 200, and says what.
    """
    user_id = guard.caller().user_id
    endpoint, model = service.open_endpoint_to_check(
        user_id=user_id, provider_id=provider_id, model=body["model"]
    )
    release_request_slot()
    return json_response(run_registry().check_provider(user_id, endpoint, model).to_json())


def _completion_request(body: dict[str, Any]) -> CompletionRequest:
    body = split_content(body)
    has_message = body["content"] is not None or "attachment_ids" in body
    return CompletionRequest(
        user_id=guard.caller().user_id,
        conversation_id=body["conversation_id"],
        provider_id=body["provider_id"],
        model=body["model"],
        content=(body["content"] or "") if has_message else None,
        parts=body.get("parts", ()),
        attachment_ids=body.get("attachment_ids", ()),
        parent_id=body["parent_id"],
        parameters=body["parameters"],
    )


def _start_once(completion_request: CompletionRequest, body: dict[str, Any]) -> Started:
    """Start a reply, or find the one that this Idempotency-Key has started."""
    registry = run_registry()
    options = {
        "request": completion_request,
        "worker_id": registry.worker_id,
        "running_limit": current_app.config["MAX_STREAMS_PER_USER"],
    }
    create: Callable[[], StartedCompletion] = partial(service.create_completion_and_commit, **options)
    with registry.take_slot() as slot:
        if has_key():
            create = _prepared(completion_request, options)
        return start_created(slot, user_id=completion_request.user_id, body=body, create=create)


def _begin_in_background(completion_request: CompletionRequest, body: dict[str, Any]) -> Response:
    """202 and the completion as it is now: in progress, or further on where the request was sent again."""
    completion_id, run, is_new = _start_once(completion_request, body)
    if run is not None:
        content = run.to_json()
    else:
        content = service.get_completion(user_id=completion_request.user_id, completion_id=completion_id)
    headers = location(f"/chat/completions/{completion_id}")
    return json_response(content, 202, headers if is_new else {**headers, REPLAYED: "true"})


def _prepared(
    completion_request: CompletionRequest, options: dict[str, Any]
) -> Callable[[], StartedCompletion]:
    """How to create the completion in a transaction that is about to begin, before which all that it sends is read.

    Where that fails a new request is refused in it; a repeated one sends nothing, and gets its completion.
    """
    refusal: ApiError
    try:
        prepared = service.prepare_completion(request=completion_request)
    except ApiError as error:
        refusal = error
    else:
        return partial(service.create_completion, prepared=prepared, **options)

    def refuse() -> StartedCompletion:
        raise refusal

    return refuse


def _preview(completion_request: CompletionRequest) -> Response:
    check_key()
    prepared = service.preview_completion(request=completion_request)
    sent = run_registry().client.describe(prepared.endpoint, prepared.request)
    context = prepared.context
    return json_response(
        {
            "request": sent,
            "omitted_messages": context.omitted,
            "omitted_attachments": omissions_to_json(context.omissions),
            "prompt_tokens": context.tokens,
            "warnings": prepared.warnings,
        }
    )


def _ended_response(stored: StoredCompletion) -> Response:
    """A reply that has ended: 201, or the provider's failure where nothing came of it."""
    if stored.row["status"] == "failed" and stored.problem is not None:
        raise ProviderFailed(stored.problem, completion_id=stored.row["id"])
    return json_response(stored.to_json(), 201, location(f"/chat/completions/{stored.row['id']}"))


def _position(text: str | None) -> int:
    position = event_stream.position_of(text)
    if position is None:
        raise InvalidInput({"Last-Event-ID": ["Must be the id of an event, a whole number."]})
    return position
