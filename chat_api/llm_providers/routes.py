"""Endpoints of LLM providers: /chat/llm-providers."""

from typing import Any

from flask import Response

from ..auth import guard
from ..database.session import db
from ..idempotency import commits_once
from ..user_llm_configs import service as user_llm_configs
from ..web.blueprint import Blueprint
from ..web.pagination import IdPageSchema, Page, id_of, listing_response
from ..web.responses import location, no_content, require_match
from . import service
from .models import LLMProvider
from .schemas import CreateProviderSchema, ProviderSchema, UpdateProviderSchema

blp = Blueprint(
    "llm-providers",
    __name__,
    url_prefix="/chat/llm-providers",
    description="LLM providers: the APIs that completions are requested from.",
)
blp.before_request(guard.require_caller)


@blp.route("", methods=["GET"])
@blp.arguments(IdPageSchema, location="query")
@blp.response(200, ProviderSchema(many=True))
def list_providers(query: dict[str, Any]) -> Response:
    """List the caller's providers and the shared ones, oldest first."""
    page = Page(**query)
    providers = service.list_providers(user_id=guard.caller().user_id, page=page)
    return listing_response(page, providers, cursor=id_of, schema=ProviderSchema(many=True))


@blp.route("", methods=["POST"])
@blp.links("get_provider", "update_provider", "delete_provider", "list_models", provider_id="id")
@blp.links("create_config", body={"user_id": "owner_id", "provider_id": "id"})
@blp.arguments(CreateProviderSchema)
@commits_once(check=lambda body: service.check_sharing(is_admin=_is_admin(), shared=body["shared"]))
@blp.response(201, ProviderSchema)
def create_provider(body: dict[str, Any]) -> Any:
    """Add an LLM provider: the caller's own, or, as an admin with `shared`, one for all users."""
    provider = service.create_provider(user_id=guard.caller().user_id, is_admin=_is_admin(), **body)
    return provider, location(f"/chat/llm-providers/{provider.id}")


@blp.route("/<id:provider_id>", methods=["GET"])
@blp.response(200, ProviderSchema)
def get_provider(provider_id: str) -> LLMProvider:
    """Get one of the caller's providers, or a shared one."""
    return service.get_provider(user_id=guard.caller().user_id, provider_id=provider_id)


@blp.route("/<id:provider_id>", methods=["PATCH"])
@blp.arguments(UpdateProviderSchema)
@blp.response(200, ProviderSchema)
def update_provider(changes: dict[str, Any], provider_id: str) -> LLMProvider:
    """Change one of the caller's providers, or, as an admin, a shared one.

    Changing `api_endpoint` deletes all users' API keys for the provider: each was given for the old endpoint,
    and has to be given again for the new one.
    """
    provider = _locked(provider_id)
    require_match(ProviderSchema().dump(provider))
    if service.update_provider(provider=provider, changes=changes):
        user_llm_configs.delete_configs_of(provider=provider)
    db.session.commit()
    return provider


@blp.route("/<id:provider_id>", methods=["DELETE"])
@blp.response(204)
def delete_provider(provider_id: str) -> Response:
    """Delete one of the caller's providers, or, as an admin, a shared one, with all API keys for it.

    Completions stay, and those in progress continue.
    """
    provider = _locked(provider_id)
    require_match(ProviderSchema().dump(provider))
    service.delete_provider(provider=provider)
    db.session.commit()
    return no_content()


def _locked(provider_id: str) -> LLMProvider:
    return service.lock_provider(
        user_id=guard.caller().user_id, provider_id=provider_id, is_admin=_is_admin()
    )


def _is_admin() -> bool:
    return guard.caller().role == "admin"
