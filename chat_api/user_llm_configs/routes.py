"""Endpoints of users' provider keys: /chat/user-llm-configs."""

from typing import Any

from flask import request

from ..auth import guard
from ..blueprint import Blueprint
from ..idempotency import commits_once
from . import service
from .models import UserLLMConfig
from .schemas import ConfigSchema, CreateConfigSchema

blp = Blueprint(
    "user-llm-configs",
    __name__,
    url_prefix="/chat/user-llm-configs",
    description="Users' own keys for LLM providers, encrypted at rest.",
)
blp.before_request(guard.require_caller)


@blp.route("", methods=["POST"])
@blp.arguments(CreateConfigSchema)
@commits_once
@blp.response(201, ConfigSchema)
def create_config(body: dict[str, Any]) -> Any:
    """Keep a user's key for a provider; it is encrypted, and never shown again."""
    guard.caller().owner(body["user_id"])
    config = service.create_config(**body)
    path = f"/chat/user-llm-configs/{config.user_id}/{config.provider_id}"
    return config, {"Location": request.script_root + path}


@blp.route("/<id:user_id>/<id:provider_id>", methods=["GET"])
@blp.response(200, ConfigSchema)
def get_config(user_id: str, provider_id: str) -> UserLLMConfig:
    """Get the user's config for a provider, with the key masked."""
    return service.get_config(user_id=guard.caller().owner_in_path(user_id), provider_id=provider_id)
