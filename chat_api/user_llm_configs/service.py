"""Keeping users' provider keys: encrypted at rest, opened only to call the provider."""

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..columns import now
from ..errors import Conflict, NotFound
from ..extensions import db
from ..keyring import keyring
from ..llm_providers import service as llm_providers
from ..users import service as users
from .models import UserLLMConfig

LONGEST_HINT = 4


def create_config(*, user_id: str, provider_id: str, api_key: str) -> UserLLMConfig:
    """Keep a user's key for a provider. Raises NotFound for user or provider, Conflict where there is a key."""
    users.get_user(user_id=user_id)
    llm_providers.get_provider(user_id=user_id, provider_id=provider_id)
    moment = now()
    config = UserLLMConfig(
        user_id=user_id,
        provider_id=provider_id,
        sealed_api_key=keyring().encrypt(api_key.encode(), place=place_of(user_id, provider_id)),
        api_key_hint=hint_of(api_key),
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


def open_api_key(config: UserLLMConfig) -> str:
    """The key itself, for a call to its provider. Raises CannotDecrypt."""
    place = place_of(config.user_id, config.provider_id)
    return keyring().decrypt(config.sealed_api_key, place=place).decode()


def hint_of(api_key: str) -> str:
    """The last characters of a key: four of a long one, fewer of a short one, so that most stays hidden."""
    return api_key[len(api_key) - min(LONGEST_HINT, len(api_key) // 4) :]


def place_of(user_id: str, provider_id: str) -> tuple[str, str, str]:
    """Where a key is sealed for."""
    return ("user_llm_configs", user_id, provider_id)
