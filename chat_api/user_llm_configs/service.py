"""Keeping users' provider keys: encrypted at rest, opened only to call the provider."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..columns import Id, now
from ..errors import Conflict, NotFound
from ..extensions import db
from ..keyring import keyring
from ..llm.request import Endpoint
from ..llm_providers import service as llm_providers
from ..llm_providers.models import LLMProvider
from ..statements import Statement
from ..users import service as users
from .models import UserLLMConfig

LONGEST_HINT = 4


@dataclass(frozen=True, slots=True)
class Access:
    """What a call to a provider in a user's name takes."""

    endpoint: Endpoint
    default_model: str | None
    context_window: int | None


# parameters: owner, provider
ACCESS = Statement(
    sa.select(
        LLMProvider.api_format,
        LLMProvider.api_endpoint,
        LLMProvider.context_window,
        UserLLMConfig.sealed_api_key,
        UserLLMConfig.default_model,
        UserLLMConfig.context_window,
    )
    .join_from(
        LLMProvider,
        UserLLMConfig,
        sa.and_(
            UserLLMConfig.provider_id == LLMProvider.id,
            UserLLMConfig.user_id == sa.bindparam("owner", type_=Id()),
        ),
        isouter=True,
    )
    .where(
        LLMProvider.id == sa.bindparam("provider", type_=Id()),
        sa.or_(
            LLMProvider.owner_id == sa.bindparam("owner", type_=Id()),
            LLMProvider.owner_id.is_(None),
        ),
    )
)


def create_config(
    *,
    user_id: str,
    provider_id: str,
    api_key: str,
    default_model: str | None,
    context_window: int | None,
) -> UserLLMConfig:
    """Keep a user's key for a provider. Raises NotFound for user or provider, Conflict where there is a key."""
    users.get_user(user_id=user_id)
    llm_providers.get_provider(user_id=user_id, provider_id=provider_id)
    moment = now()
    config = UserLLMConfig(
        user_id=user_id,
        provider_id=provider_id,
        sealed_api_key=keyring().encrypt(api_key.encode(), place=place_of(user_id, provider_id)),
        api_key_hint=hint_of(api_key),
        default_model=default_model,
        context_window=context_window,
        created_at=moment,
        updated_at=moment,
    )
    db.session.add(config)
    try:
        db.session.flush()
    except IntegrityError as error:
        raise Conflict("There is a key for this provider already.") from error
    return config


def get_config(*, user_id: str, provider_id: str) -> UserLLMConfig:
    """The user's key for this provider, still encrypted. Raises NotFound."""
    config = db.session.scalar(
        sa.select(UserLLMConfig).where(
            UserLLMConfig.user_id == user_id, UserLLMConfig.provider_id == provider_id
        )
    )
    if config is None:
        raise NotFound("LLM config")
    return config


def open_access(*, user_id: str, provider_id: str) -> Access:
    """The provider with the user's key, for a call to it. Raises NotFound, and CannotDecrypt."""
    return access_from(ACCESS.all(owner=user_id, provider=provider_id), user_id, provider_id)


def access_from(rows: list[Any], user_id: str, provider_id: str) -> Access:
    """As `open_access`, from what ACCESS found."""
    if not rows:
        raise NotFound("LLM provider")
    [row] = rows
    api_format, api_endpoint, providers_window, sealed_api_key, default_model, own_window = row
    if sealed_api_key is None:
        raise NotFound("LLM config with a key for this provider")
    api_key = keyring().decrypt(sealed_api_key, place=place_of(user_id, provider_id)).decode()
    endpoint = Endpoint(api_format, api_endpoint, api_key)
    return Access(endpoint, default_model, own_window or providers_window)


def hint_of(api_key: str) -> str:
    """The last characters of a key: four of a long one, fewer of a short one, so that most stays hidden."""
    return api_key[len(api_key) - min(LONGEST_HINT, len(api_key) // 4) :]


def place_of(user_id: str, provider_id: str) -> tuple[str, str, str]:
    """Where a key is sealed for."""
    return ("user_llm_configs", user_id, provider_id)
