"""Making and finding providers."""

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..errors import NotFound
from ..extensions import db
from .models import LLMProvider


def create_provider(
    *, owner_id: str | None, name: str, api_endpoint: str, api_format: str, context_window: int | None
) -> LLMProvider:
    """Make a provider of this user, or a shared one for None. Raises NotFound for a user that is gone."""
    provider = LLMProvider(
        owner_id=owner_id,
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


def get_provider(*, user_id: str, provider_id: str) -> LLMProvider:
    """The provider, if it is this user's or shared. Raises NotFound."""
    provider = db.session.scalar(
        sa.select(LLMProvider).where(
            LLMProvider.id == provider_id,
            sa.or_(LLMProvider.owner_id == user_id, LLMProvider.owner_id.is_(None)),
        )
    )
    if provider is None:
        raise NotFound("LLM provider")
    return provider
