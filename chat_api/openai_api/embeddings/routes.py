"""Endpoint of embeddings: /v1/embeddings."""

from typing import Any

import orjson
from flask import Blueprint, Response, current_app

from ...auth import guard
from ...completions import service as completions
from ...completions.registry import run_registry
from ...completions.run import problem_of
from ...egress.errors import EgressError
from ...errors import ProviderFailed
from ...server.slots import release_request_slot, stream_slots
from ...telemetry import metrics
from ...user_llm_configs import service as user_llm_configs
from ...web.json_body import json_object
from ..errors import RequestRefused
from ..model_names import Target, asked, resolve
from ..writable import require_writable
from .answer import Answer

MAX_VALUES = 500_000  # names and values: texts may come as lists of tokens, of which a request has 300,000
OPERATION = "/embeddings"

blp = Blueprint("openai_embeddings", __name__, url_prefix="/v1")
blp.before_request(guard.require_caller)


@blp.post("/embeddings")
def create_embeddings() -> Response:
    """Hand a request on to the provider that its model names, and the answer back, as they are."""
    user_id = guard.caller().user_id
    with json_object(is_small=False, max_values=MAX_VALUES) as body:
        target, sent = _request(user_id, body)
        del body
    endpoint = completions.open_endpoint(user_id=user_id, provider_id=target.choice.provider_id)
    with stream_slots().take(user_id) as slot:
        release_request_slot()
        try:
            answer = Answer(
                run_registry().client.send(endpoint, OPERATION, sent), count=metrics.counter_of_embeddings()
            )
        except EgressError as error:
            raise ProviderFailed(problem_of(error)) from None
        response = current_app.response_class(answer.pieces(), content_type="application/json")
        response.call_on_close(answer.close)
        return slot.until_closed(response)


def _request(user_id: str, body: dict[str, Any]) -> tuple[Target, bytes]:
    """Where a request goes, and what is sent. Raises RequestRefused."""
    name = asked(body)
    if body.get("input") is None:
        raise RequestRefused("input is missing.", param="input", code="missing_required_parameter")
    target = resolve(name, user_llm_configs.list_choices(user_id=user_id))
    if target.choice.api_format != "openai":
        raise RequestRefused(
            f"{target.choice.prefix} has no embeddings.", param="model", code="model_not_found", status=404
        )
    whole = {**body, "model": target.model}
    try:
        return target, orjson.dumps(whole)
    except orjson.JSONEncodeError:
        require_writable(whole)
        raise
