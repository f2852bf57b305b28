"""Endpoints of LLM providers: /chat/llm-providers."""

from typing import Any

from flask import request

from ..auth import guard
from ..blueprint import Blueprint
from ..errors import Forbidden
from ..idempotency import commits_once
from . import service
from .models import LLMProvider
from .schemas import CreateProviderSchema, ProviderSchema

blp = Blueprint(
    "llm-providers",
    __name__,
    url_prefix="/chat/llm-providers",
    description="LLM providers: where replies come from.",
)
blp.before_request(guard.require_caller)


@blp.route("", methods=["POST"])
@blp.arguments(CreateProviderSchema)
@commits_once
@blp.response(201, ProviderSchema)
def create_provider(body: dict[str, Any]) -> Any:
    """Add an LLM provider: the caller's own, or, by an admin with `shared`, everybody's."""
    caller, shared = guard.caller(), body.pop("shared")
    if shared and caller.role != "admin":
        raise Forbidden("Only an admin may add a shared provider.")
    provider = service.create_provider(owner_id=None if shared else caller.user_id, **body)
    return provider, {"Location": f"{request.script_root}/chat/llm-providers/{provider.id}"}


@blp.route("/<id:provider_id>", methods=["GET"])
@blp.response(200, ProviderSchema)
def get_provider(provider_id: str) -> LLMProvider:
    """Get one of the caller's providers, or a shared one."""
    return service.get_provider(user_id=guard.caller().user_id, provider_id=provider_id)
