"""Endpoints of LLM providers: /chat/llm-providers."""

from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Response

from ..auth import guard
from ..database.bulk import with_rests
from ..database.session import db
from ..errors import Unavailable
from ..idempotency import commits_once
from ..llm.vendors import vendors
from ..user_llm_configs import service as user_llm_configs
from ..web.blueprint import Blueprint
from ..web.pagination import IdPageSchema, Page, id_of, listing_response
from ..web.responses import entity_response, location, no_content, require_match
from . import service
from .models import LLMProvider
from .schemas import CreateProviderSchema, ProviderSchema, UpdateProviderSchema, VendorSchema

TRIES = 5  # while others store keys as fast as they are deleted

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
    """List the caller's providers and the shared ones, oldest first.

    At most `limit` of them; the header `Link` leads to the next page.
    """
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
    """Add an LLM provider: the caller's own, or, as an admin with `shared`, one for all users.

    Either `name` and `api_endpoint` are given, or a `catalog` that knows them.
    """
    provider = service.create_provider(user_id=guard.caller().user_id, is_admin=_is_admin(), **body)
    return provider, location(f"/chat/llm-providers/{provider.id}")


@blp.route("/catalog", methods=["GET"])
@blp.response(200, VendorSchema(many=True))
def list_catalog() -> Response:
    """List the vendors that a provider can be made from, with what is known of them.

    `POST /chat/llm-providers` takes one of these ids as `catalog`; fields that are given there take precedence.
    """
    return entity_response(VendorSchema(many=True).dump(vendors().values()))


@blp.route("/<id:provider_id>", methods=["GET"])
@blp.response(200, ProviderSchema)
def get_provider(provider_id: str) -> LLMProvider:
    """Get one of the caller's providers, or a shared one.

    The values of its additional headers are not returned.
    """
    return service.get_provider(user_id=guard.caller().user_id, provider_id=provider_id)


@blp.route("/<id:provider_id>", methods=["PATCH"])
@blp.problems(409)
@blp.arguments(UpdateProviderSchema)
@blp.response(200, ProviderSchema)
def update_provider(changes: dict[str, Any], provider_id: str) -> LLMProvider:
    """Change one of the caller's providers, or, as an admin, a shared one.

    Changing `api_endpoint` deletes all users' API keys for the provider, and its `headers`: each was given for the
    old endpoint, and has to be stored again for the new one.
    """
    return _with_few_keys_and_commit(provider_id, partial(service.update_provider, changes=changes))


@blp.route("/<id:provider_id>", methods=["DELETE"])
@blp.response(204)
def delete_provider(provider_id: str) -> Response:
    """Delete one of the caller's providers, or, as an admin, a shared one, with all API keys for it.

    Completions stay, and those in progress continue.
    """
    _with_few_keys_and_commit(provider_id, None)
    return no_content()


def _locked(provider_id: str) -> LLMProvider:
    return service.lock_provider(
        user_id=guard.caller().user_id, provider_id=provider_id, is_admin=_is_admin()
    )


def _with_few_keys_and_commit(provider_id: str, change: Callable[..., bool] | None) -> LLMProvider:
    """Change a provider, or delete it, with the keys for it. `change` says whether these have to go.

    Very many are deleted before, in steps: all users wait for one statement that deletes them. An interruption leaves
    the provider as it was, with fewer keys.
    """
    for _ in range(TRIES):
        provider = _locked(provider_id)
        owner_id = provider.owner_id
        require_match(ProviderSchema().dump(provider))
        ends_keys = change is None or change(provider=provider)
        if not ends_keys or user_llm_configs.delete_configs_of(provider=provider):
            if change is None:
                service.delete_provider(provider=provider)
            db.session.commit()
            return provider
        db.session.rollback()
        steps = user_llm_configs.delete_configs_in_steps(provider_id=provider_id, owner_id=owner_id)
        for _step in with_rests(steps):
            db.session.commit()
        db.session.rollback()
    raise Unavailable("Other requests keep storing keys for this provider; retry.")


def _is_admin() -> bool:
    return guard.caller().role == "admin"
