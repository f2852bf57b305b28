"""Creating, finding, changing and deleting providers."""

from collections.abc import Mapping
from typing import Any

import orjson
import sqlalchemy as sa
from flask import current_app
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from ..database.columns import new_id
from ..database.session import db
from ..egress.errors import Blocked
from ..egress.policy import AddressPolicy, address_settings
from ..errors import Conflict, Forbidden, InvalidInput, NotFound
from ..users import service as users
from ..users.quotas import Quota, Quotas, rows_of
from ..web.pagination import Listing, Page
from .learned_options import settings_of
from .models import LLMProvider
from .secret_headers import changed_headers
from .slugs import MAX_LENGTH, free_slug, slug_of, unique_slug

NUMBERED_TRIES = 3  # to find a slug that nobody takes in between
QUOTAS = Quotas(
    rows_of(LLMProvider.owner_id),
    Quota("providers", "MAX_PROVIDERS_PER_USER", "LLM providers"),
    remembers=False,
)


def list_providers(*, user_id: str, page: Page) -> Listing[LLMProvider]:
    """A page of the user's providers and the shared ones, oldest first."""
    # not `owner_id = …`: with one owner Postgres may read the primary key, and everybody's providers on the way
    own = LLMProvider.owner_id.between(user_id, user_id)
    ranges = (_range(own, page), _range(LLMProvider.owner_id.is_(None), page))
    provider = aliased(LLMProvider, sa.union_all(*ranges).subquery())
    return page.listing(list(db.session.scalars(page.sort(sa.select(provider), provider.id))))


def _range(owner: sa.ColumnElement[bool], page: Page) -> sa.Select[Any]:
    """A page of one owner's providers, read from the index (owner_id, id) and no further than the page.

    One condition for both owners, `owner_id = … OR owner_id IS NULL`, would read and sort all of them. The order
    names the owner, too, because Postgres does not see that `IS NULL` leaves one value, and would sort.
    """
    query = page.narrow(sa.select(LLMProvider).where(owner), LLMProvider.id)
    return sa.select(page.sort(query, LLMProvider.owner_id, LLMProvider.id).subquery())


def create_provider(
    *,
    user_id: str,
    is_admin: bool,
    shared: bool,
    name: str,
    api_endpoint: str,
    api_format: str,
    context_window: int | None,
    slug: str | None = None,
    **details: Any,
) -> LLMProvider:
    """Create a provider of this user, or a shared one. Raises NotFound if the user was deleted.

    `details` are catalog, auth, headers, extra_body and request_options. Raises Forbidden for a shared one unless
    `is_admin`, InvalidInput for an address that is not called, and Conflict for a slug that another one has. Without a
    slug it gets a free one.
    """
    check_sharing(is_admin=is_admin, shared=shared)
    _require_callable(api_endpoint)
    if not shared:
        QUOTAS.require_room(1, user_id=user_id)
    provider = LLMProvider(
        id=new_id(),
        owner_id=None if shared else user_id,
        name=name,
        api_endpoint=api_endpoint,
        api_format=api_format,
        context_window=context_window,
    )
    _set(provider, details)
    for _ in range(NUMBERED_TRIES):
        provider.slug = slug or find_free_slug(owner_id=provider.owner_id, name=name)
        try:
            with db.session.begin_nested():
                db.session.add(provider)
            return provider
        except IntegrityError as error:
            users.require_user(user_id=user_id)
            if slug is not None:
                raise _taken(slug) from error
    provider.slug = unique_slug(name, provider.id)  # many are being added at the same time
    db.session.add(provider)
    db.session.flush()
    return provider


def find_free_slug(*, owner_id: str | None, name: str) -> str:
    """A slug for a provider of this name that no other one of this owner has; of the shared ones for None."""
    beginning = slug_of(name)[: MAX_LENGTH - 9]  # a number may end it
    similar = sa.select(LLMProvider.slug).where(
        LLMProvider.owner_id == owner_id, LLMProvider.slug.startswith(beginning, autoescape=True)
    )
    return free_slug(name, {slug for slug in db.session.scalars(similar) if slug})


def _taken(slug: str) -> Conflict:
    return Conflict(f"Another provider already has the slug {slug} already.")


def check_sharing(*, is_admin: bool, shared: bool) -> None:
    """Raise Forbidden if somebody other than an admin is about to add a shared provider."""
    if shared and not is_admin:
        raise Forbidden("Only an admin may add a shared provider.")


def get_provider(*, user_id: str, provider_id: str, lock: bool = False) -> LLMProvider:
    """The provider, if it is this user's or shared. `lock` keeps it as it is until the transaction ends.

    Raises NotFound.
    """
    query = sa.select(LLMProvider).where(
        LLMProvider.id == provider_id,
        sa.or_(LLMProvider.owner_id == user_id, LLMProvider.owner_id.is_(None)),
    )
    if lock:  # not FOR UPDATE: users of a shared provider do not wait for each other
        query = query.with_for_update(read=True).execution_options(populate_existing=True)
    provider = db.session.scalar(query)
    if provider is None:
        raise NotFound("LLM provider")
    return provider


def lock_provider(*, user_id: str, provider_id: str, is_admin: bool) -> LLMProvider:
    """The provider, locked until the transaction ends: nobody else can change it or store a key for it.

    Raises NotFound, and Forbidden for a shared one unless `is_admin`.
    """
    mine = LLMProvider.owner_id == user_id
    may_change = sa.or_(mine, LLMProvider.owner_id.is_(None)) if is_admin else mine
    # FOR UPDATE also blocks foreign key checks: a key that is being stored is either visible to us, or stored after us
    query = sa.select(LLMProvider).where(LLMProvider.id == provider_id, may_change).with_for_update()
    provider = db.session.scalar(query)
    if provider is None:
        get_provider(user_id=user_id, provider_id=provider_id)
        raise Forbidden("Only an admin may change a shared provider.")
    return provider


def update_provider(*, provider: LLMProvider, changes: dict[str, Any]) -> bool:
    """Change these fields of a locked provider; whether its endpoint is a different one now.

    If so, its own headers are gone, and the caller deletes the keys that are stored for it, see
    `user_llm_configs.service.delete_configs_of`. Raises InvalidInput for an address that is not called, and Conflict
    for a slug that another provider has.
    """
    has_moved = changes.get("api_endpoint", provider.api_endpoint) != provider.api_endpoint
    settings = settings_of(provider)
    if has_moved:
        _require_callable(changes["api_endpoint"])
        provider.encrypted_headers = None  # they are secrets, and were given for the old endpoint
    _set(provider, changes)
    if settings_of(provider) != settings:
        provider.learned_options = None
    try:
        db.session.flush()
    except IntegrityError as error:
        raise _taken(changes["slug"]) from error
    if provider.slug is None:
        _give_slug(provider)
    return bool(has_moved)


def _give_slug(provider: LLMProvider) -> None:
    """Give a slug to a provider of a release that had none."""
    try:
        with db.session.begin_nested():
            provider.slug = find_free_slug(owner_id=provider.owner_id, name=provider.name)
    except IntegrityError:  # another one got it at the same time
        provider.slug = unique_slug(provider.name, provider.id)
        db.session.flush()


def delete_provider(*, provider: LLMProvider) -> None:
    """Delete a locked provider and, through the foreign key, all keys that are stored for it."""
    db.session.delete(provider)
    db.session.flush()


def _set(provider: LLMProvider, values: Mapping[str, Any]) -> None:
    """Set the columns for values of the fields of the API."""
    columns = dict(values)
    if "headers" in columns:
        columns["encrypted_headers"] = changed_headers(
            provider_id=provider.id, stored=provider.encrypted_headers, changes=columns.pop("headers")
        )
    columns |= stored_details(details=columns)
    for name, value in columns.items():
        setattr(provider, name, value)


def stored_details(*, details: Mapping[str, Any]) -> dict[str, str | None]:
    """What the columns hold of those fields that are JSON."""
    return {
        name: orjson.dumps(details[name]).decode() if details[name] else None
        for name in ("extra_body", "request_options")
        if name in details
    }


def _require_callable(api_endpoint: str) -> None:
    """Raise InvalidInput where a URL alone says that no call will go there, in the words of a call that fails."""
    policy = AddressPolicy(**address_settings(current_app.config))
    try:
        policy.check_url(api_endpoint)
    except Blocked as error:
        raise InvalidInput({"api_endpoint": [error.detail]}) from None
