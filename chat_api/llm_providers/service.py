"""Creating, finding, changing and deleting providers."""

from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from ..database.session import db
from ..database.statements import Statement
from ..errors import Forbidden, KeyUnreadable, NotFound
from ..keyring import CannotDecrypt, keyring
from ..users.quotas import Quota, Quotas
from ..web.pagination import Listing, Page
from .models import LLMProvider

_USE = Statement(
    sa.select(sa.func.sum(sa.literal_column("1"))).where(LLMProvider.owner_id == sa.bindparam("user_id"))
)
QUOTAS = Quotas(_USE, Quota("providers", "MAX_PROVIDERS_PER_USER", "LLM providers"), remembers=False)


class HeadersUnreadable(KeyUnreadable):
    """No key in ENCRYPTION_KEYS opens the provider's headers; only whoever set them has them."""

    def __init__(self) -> None:
        super().__init__(
            "The server can't open the provider's `headers` any more; whoever may change the provider sets them again."
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
) -> LLMProvider:
    """Create a provider of this user, or a shared one. Raises NotFound if the user was deleted.

    Raises Forbidden for a shared one unless `is_admin`.
    """
    check_sharing(is_admin=is_admin, shared=shared)
    if not shared:
        QUOTAS.require_room(1, user_id=user_id)
    provider = LLMProvider(
        owner_id=None if shared else user_id,
        name=name,
        api_endpoint=api_endpoint,
        api_format=api_format,
        context_window=context_window,
    )
    db.session.add(provider)
    try:
        db.session.flush()
    except IntegrityError as error:
        raise NotFound("user") from error
    return provider


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

    If so, the caller deletes the keys that are stored for it, see `user_llm_configs.service.delete_configs_of`.
    """
    has_moved = changes.get("api_endpoint", provider.api_endpoint) != provider.api_endpoint
    for name, value in changes.items():
        setattr(provider, name, value)
    db.session.flush()
    return bool(has_moved)


def delete_provider(*, provider: LLMProvider) -> None:
    """Delete a locked provider and, through the foreign key, all keys that are stored for it."""
    db.session.delete(provider)
    db.session.flush()


def decrypted_headers(*, provider_id: str, ciphertext: str | None) -> dict[str, str]:
    """A provider's own headers. Raises KeyUnreadable."""
    if ciphertext is None:
        return {}
    try:
        content = keyring().decrypt(ciphertext, encryption_context=_encryption_context(provider_id))
    except CannotDecrypt:
        raise HeadersUnreadable() from None
    headers: dict[str, str] = orjson.loads(content)
    return headers


def _encryption_context(provider_id: str) -> tuple[str, str]:
    return ("llm_providers", provider_id)
