"""Endpoints of users' provider keys: /chat/user-llm-configs."""

from typing import Any

from flask import Response

from ..auth import guard
from ..database.session import db
from ..idempotency import commits_once
from ..web.blueprint import Blueprint
from ..web.pagination import IdPageSchema, Page, id_of, listing_response
from ..web.responses import json_response, location, no_content, require_match
from . import service
from .models import UserLLMConfig
from .schemas import ConfigSchema, CreateConfigSchema, ReplaceConfigSchema

blp = Blueprint(
    "user-llm-configs",
    __name__,
    url_prefix="/chat/user-llm-configs",
    description="Users' own API keys for LLM providers, encrypted at rest.",
)
blp.before_request(guard.require_caller)


@blp.route("", methods=["GET"])
@blp.arguments(IdPageSchema, location="query")
@blp.response(200, ConfigSchema(many=True))
def list_configs(query: dict[str, Any]) -> Response:
    """List the caller's configs, oldest first, with the keys masked.

    At most `limit` of them; the header `Link` leads to the next page.
    """
    page = Page(**query)
    configs = service.list_configs(user_id=guard.caller().user_id, page=page)
    return listing_response(page, configs, cursor=id_of, schema=ConfigSchema(many=True))


@blp.route("", methods=["POST"])
@blp.links("get_config", "replace_config", "delete_config", user_id="user_id", provider_id="provider_id")
@blp.links("get_provider", "list_models", provider_id="provider_id")
@blp.links("create_completion", body={"provider_id": "provider_id"})
@blp.arguments(CreateConfigSchema)
@commits_once(check=guard.require_owner)
@blp.response(201, ConfigSchema)
def create_config(body: dict[str, Any]) -> Any:
    """Store a user's API key for a provider. It is encrypted, and no answer contains it.

    A user has one config for each provider: a second one is 409, and `PUT` replaces it.
    """
    config = service.create_config(**body)
    return config, _location(config)


@blp.route("/<id:user_id>/<id:provider_id>", methods=["GET"])
@blp.response(200, ConfigSchema)
def get_config(user_id: str, provider_id: str) -> UserLLMConfig:
    """Get the user's config for a provider, with the key masked.

    The masked key has its last characters, to tell keys apart.
    """
    return service.get_config(user_id=guard.caller().owner_in_path(user_id), provider_id=provider_id)


@blp.route("/<id:user_id>/<id:provider_id>", methods=["PUT"])
@blp.problems(409)
@blp.links("get_config", "delete_config", user_id="user_id", provider_id="provider_id")
@blp.arguments(ReplaceConfigSchema)
@blp.response(200, ConfigSchema)
@blp.alt_response(201, schema=ConfigSchema, description="There was none; it was created.")
def replace_config(body: dict[str, Any], user_id: str, provider_id: str) -> Any:
    """Replace the user's config for a provider, or create it.

    Optional fields that the body leaves out are reset.
    """
    owner_id = guard.caller().owner_in_path(user_id)
    endpoint = body.pop("api_endpoint")
    service.require_provider(
        user_id=owner_id, provider_id=provider_id, api_endpoint=endpoint, api_key=body["api_key"]
    )
    config, is_new = service.lock_or_create_config(user_id=owner_id, provider_id=provider_id, **body)
    require_match(None if is_new else ConfigSchema().dump(config))
    if not is_new:
        service.replace_config(config=config, **body)
    db.session.commit()
    if is_new:
        return json_response(ConfigSchema().dump(config), 201, _location(config))
    return config


@blp.route("/<id:user_id>/<id:provider_id>", methods=["DELETE"])
@blp.response(204)
def delete_config(user_id: str, provider_id: str) -> Response:
    """Delete the user's API key for a provider.

    Completions of this provider then need another key, unless they need none.
    """
    owner_id = guard.caller().owner_in_path(user_id)
    config = service.get_config(user_id=owner_id, provider_id=provider_id, lock=True)
    require_match(ConfigSchema().dump(config))
    service.delete_config(config=config)
    db.session.commit()
    return no_content()


def _location(config: UserLLMConfig) -> dict[str, str]:
    return location(f"/chat/user-llm-configs/{config.user_id}/{config.provider_id}")
