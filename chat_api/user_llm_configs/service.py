"""Storing, replacing and deleting users' provider keys, which are decrypted only to call the provider."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..database.bulk import rows_at_once
from ..database.columns import Id, now, seconds_of
from ..database.parameters import USER_ID, given
from ..database.session import db
from ..database.statements import Call, Row, Statement
from ..errors import Conflict, InvalidInput, KeyUnreadable, NotFound
from ..keyring import CannotDecrypt, keyring
from ..llm.headers import needs_no_key
from ..llm.request import Endpoint
from ..llm.vendors import options_of, vendor_of
from ..llm_providers import learned_options
from ..llm_providers import service as llm_providers
from ..llm_providers.fields import parsed_object
from ..llm_providers.models import LLMProvider
from ..llm_providers.secret_headers import decrypted_headers
from ..users import service as users
from ..users.quotas import Quota, Quotas, rows_of
from ..web.pagination import Listing, Page
from .models import NO_KEY_HINT, UserLLMConfig

MAX_HINT_LENGTH = 4

Key = tuple[str, str]
"""Of a stored key: its user and its id."""


class EndpointChanged(Conflict):
    """The provider is no longer at the endpoint for which a key was meant. The key is not repeated."""

    code = "endpoint_changed"

    def __init__(self) -> None:
        super().__init__(
            "The provider's `api_endpoint` has changed; get the provider, and store the key for the new endpoint if "
            "you trust it."
        )


class NoKey(NotFound):
    """The user has stored no key for a provider that needs one."""

    def __init__(self) -> None:
        super(NotFound, self).__init__(
            "You have no key for this provider; store one with POST /chat/user-llm-configs."
        )


@dataclass(frozen=True, slots=True)
class Access:
    """What a call to a provider on behalf of a user needs."""

    endpoint: Endpoint
    default_model: str | None
    context_window: int | None
    # what its server has complained about, and to which settings of the provider that belongs
    learned: str | None
    settings_version: int

    def endpoint_for(self, *, user_id: str, provider_id: str, model: str | None) -> Endpoint:
        """The endpoint as requests for this model need it; without a model, as those need it that name none."""
        changes = learned_options.options_for(
            learned=self.learned,
            user_id=user_id,
            provider_id=provider_id,
            version=self.settings_version,
            model=model,
        )
        return (
            replace(self.endpoint, options=self.endpoint.options.merged(changes))
            if changes
            else self.endpoint
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """A provider that a user has a config for."""

    provider_id: str
    slug: str | None
    name: str
    is_shared: bool
    api_format: str
    created_at_s: int  # since 1970
    default_model: str | None

    @property
    def prefix(self) -> str:
        """What stands for it in the name of a model."""
        return self.slug or self.provider_id


# parameters: user_id, provider_id
_ACCESS = Statement(
    sa.select(
        *learned_options.COLUMNS,
        LLMProvider.context_window,
        LLMProvider.learned_options,
        UserLLMConfig.encrypted_api_key,
        UserLLMConfig.default_model,
        UserLLMConfig.context_window,
    )
    .join_from(
        LLMProvider,
        UserLLMConfig,
        sa.and_(
            UserLLMConfig.provider_id == LLMProvider.id,
            UserLLMConfig.user_id == USER_ID,
        ),
        isouter=True,
    )
    .where(
        LLMProvider.id == given("provider_id"),
        sa.or_(
            LLMProvider.owner_id == USER_ID,
            LLMProvider.owner_id.is_(None),
        ),
    )
)

_CHOICES = Statement(
    sa.select(
        LLMProvider.id,
        LLMProvider.slug,
        LLMProvider.name,
        LLMProvider.owner_id.is_(None),
        LLMProvider.api_format,
        LLMProvider.created_at,
        UserLLMConfig.default_model,
    )
    .join_from(UserLLMConfig, LLMProvider, UserLLMConfig.provider_id == LLMProvider.id)
    .where(
        UserLLMConfig.user_id == USER_ID,
        sa.or_(LLMProvider.owner_id == USER_ID, LLMProvider.owner_id.is_(None)),
    )
    .order_by(UserLLMConfig.id)
)

QUOTAS = Quotas(
    rows_of(UserLLMConfig.user_id),
    Quota("configs", "MAX_CONFIGS_PER_USER", "keys for LLM providers"),
    remembers=False,
)


def list_choices(*, user_id: str) -> list[Choice]:
    """The providers that the user has configs for, oldest config first."""
    return [
        Choice(str(id_), slug, name, bool(is_shared), api_format, int(seconds_of(created_at)), default_model)
        for id_, slug, name, is_shared, api_format, created_at, default_model in _CHOICES.all(user_id=user_id)
    ]


def list_configs(*, user_id: str, page: Page) -> Listing[UserLLMConfig]:
    """A page of the user's configs, oldest first."""
    own = sa.select(UserLLMConfig).where(UserLLMConfig.user_id == user_id)
    query = page.sort(page.narrow(own, UserLLMConfig.id), UserLLMConfig.id)
    return page.listing(list(db.session.scalars(query)))


def require_provider(
    *, user_id: str, provider_id: str, api_endpoint: str | None, api_key: str | None
) -> None:
    """Check that a provider may have this key, or none. Raises NotFound, EndpointChanged, or InvalidInput.

    With an `api_endpoint` the provider has to be there, and stays there until the transaction ends. This comes before
    the config is locked: whoever moves a provider locks both in this order. A key may be missing unless the
    provider's vendor is known to want one.
    """
    must_stay = api_endpoint is not None
    provider = llm_providers.get_provider(user_id=user_id, provider_id=provider_id, lock=must_stay)
    if must_stay and provider.api_endpoint != api_endpoint:
        raise EndpointChanged()
    vendor = vendor_of(provider.api_endpoint, provider.api_format, provider.catalog)
    if api_key is not None or vendor is None or provider.encrypted_headers is not None:
        return
    if not needs_no_key(provider.auth, vendor):
        raise InvalidInput({"api_key": [f"Missing: {vendor.name} requires a key."]})


def create_config(
    *, user_id: str, provider_id: str, api_endpoint: str | None = None, **content: Any
) -> UserLLMConfig:
    """Store a user's key for a provider, see `replace_config`; with `api_endpoint`, only for that one.

    Raises NotFound for user or provider, Conflict if there is a key already, EndpointChanged.
    """
    users.get_user(user_id=user_id)
    QUOTAS.require_room(1, user_id=user_id)
    require_provider(
        user_id=user_id, provider_id=provider_id, api_endpoint=api_endpoint, api_key=content["api_key"]
    )
    config = UserLLMConfig(user_id=user_id, provider_id=provider_id)
    replace_config(config=config, **content)
    config.created_at = config.updated_at
    try:
        with db.session.begin_nested():
            db.session.add(config)
    except IntegrityError as error:
        users.require_user(user_id=user_id)  # either may have been deleted in the meantime
        llm_providers.get_provider(user_id=user_id, provider_id=provider_id)
        raise Conflict("You already have a key for this provider; replace it with PUT.") from error
    return config


def get_config(*, user_id: str, provider_id: str, lock: bool = False) -> UserLLMConfig:
    """The user's key for this provider, still encrypted; see `find_config`. Raises NotFound."""
    config = find_config(user_id=user_id, provider_id=provider_id, lock=lock)
    if config is None:
        raise NotFound("LLM config")
    return config


def find_config(*, user_id: str, provider_id: str, lock: bool = False) -> UserLLMConfig | None:
    """The user's key for this provider, or None. `lock` keeps others from changing it until the transaction ends."""
    query = sa.select(UserLLMConfig).where(
        UserLLMConfig.user_id == user_id, UserLLMConfig.provider_id == provider_id
    )
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return db.session.scalar(query)


def lock_or_create_config(*, user_id: str, provider_id: str, **content: Any) -> tuple[UserLLMConfig, bool]:
    """The user's existing config for this provider, locked, or a new one; and whether it is new.

    Raises NotFound for user or provider.
    """
    config = find_config(user_id=user_id, provider_id=provider_id, lock=True)
    if config is not None:
        return config, False
    try:
        return create_config(user_id=user_id, provider_id=provider_id, **content), True
    except Conflict:  # another request was faster
        config = find_config(user_id=user_id, provider_id=provider_id, lock=True)
        if config is None:  # and one deleted it
            raise
        return config, False


def replace_config(
    *, config: UserLLMConfig, api_key: str | None, default_model: str | None, context_window: int | None
) -> None:
    """Set all fields of a locked or new config, and encrypt the key for its user and provider.

    None, no key, is encrypted as an empty one.
    """
    context = _encryption_context(config.user_id, config.provider_id)
    config.encrypted_api_key = keyring().encrypt((api_key or "").encode(), encryption_context=context)
    config.api_key_hint = NO_KEY_HINT if api_key is None else _hint_of(api_key)
    config.default_model = default_model
    config.context_window = context_window
    config.updated_at = now()


def delete_config(*, config: UserLLMConfig) -> None:
    """Delete a user's key for a provider."""
    db.session.delete(config)
    db.session.flush()


def delete_configs_of(*, provider: LLMProvider) -> bool:
    """Delete all stored keys for a locked provider whose endpoint has changed; whether that was done.

    Each was given for the endpoint that its user saw. Otherwise anyone who may change the provider, or has stolen a
    token of someone who may, could have keys sent to a server of their own.

    Of very many only the first ones are deleted; the caller rolls back, and runs `delete_configs_in_steps`.
    """
    return len(_delete_some(provider.id, provider.owner_id, upto=None)) < rows_at_once()


def delete_configs_in_steps(*, provider_id: str, owner_id: str | None) -> Iterator[None]:
    """Delete the stored keys for a provider; in steps, each to be committed. Others may store new ones in between."""
    upto: Key | None = None
    while found := _delete_some(provider_id, owner_id, upto=upto):
        yield
        upto = found[-1]


def _delete_some(provider_id: str, owner_id: str | None, *, upto: Key | None) -> list[Key]:
    """Delete the next keys, of users after those of the step before; which ones."""
    key = (UserLLMConfig.user_id, UserLLMConfig.id)
    configs: list[Any] = [UserLLMConfig.provider_id == provider_id]
    if owner_id is not None:  # nobody else has a key for one's own provider
        configs.append(UserLLMConfig.user_id == owner_id)
    if upto is not None:
        configs.append(sa.tuple_(*key) > sa.tuple_(*upto, types=[Id(), Id()]))
    batch = sa.select(*key).where(*configs).order_by(*key).limit(rows_at_once())
    found = [(row.user_id, row.id) for row in db.session.execute(batch)]
    if found:
        last = sa.tuple_(*key) <= sa.tuple_(*found[-1], types=[Id(), Id()])
        db.session.execute(
            sa.delete(UserLLMConfig).where(*configs, last).execution_options(synchronize_session=False)
        )
    return found


def open_access(*, user_id: str, provider_id: str, needs_key: bool = True) -> Access:
    """The provider with the user's decrypted key, to call it. Raises NotFound and KeyUnreadable.

    Without `needs_key` the provider may also be one that wants a key, of which the user has none.
    """
    statement, parameters = reading_access(user_id=user_id, provider_id=provider_id)
    rows = statement.all(**parameters)
    return access_of(rows=rows, user_id=user_id, provider_id=provider_id, needs_key=needs_key)


def reading_access(*, user_id: str, provider_id: str) -> Call:
    """What `access_of` needs the rows of, to be run in a round trip with other statements."""
    return _ACCESS, {"user_id": user_id, "provider_id": provider_id}


def access_of(*, rows: list[Row], user_id: str, provider_id: str, needs_key: bool = True) -> Access:
    """As `open_access`, of what was read already."""
    if not rows:
        raise NotFound("LLM provider")
    [(*settings, window, learned, encrypted_api_key, default_model, own_window)] = rows
    api_endpoint, api_format, catalog, stored_auth, encrypted_headers, extra_body, options = settings
    vendor = vendor_of(api_endpoint, api_format, catalog)
    auth = stored_auth or (vendor.auth if vendor else None)
    if encrypted_api_key is None and needs_key and not needs_no_key(auth, vendor):
        raise NoKey()
    endpoint = Endpoint(
        api_format,
        api_endpoint,
        _decrypted_key(encrypted_api_key, user_id, provider_id),
        auth=auth,
        headers=decrypted_headers(provider_id=provider_id, stored=encrypted_headers),
        extra_body=parsed_object(extra_body),
        options=options_of(vendor, parsed_object(options)),
    )
    version = learned_options.settings_version(tuple(settings))
    return Access(endpoint, default_model, own_window or window, learned, version)


def _decrypted_key(ciphertext: str | None, user_id: str, provider_id: str) -> str:
    """The key, empty where there is none. Raises KeyUnreadable."""
    if ciphertext is None:
        return ""
    try:
        return (
            keyring()
            .decrypt(ciphertext, encryption_context=_encryption_context(user_id, provider_id))
            .decode()
        )
    except CannotDecrypt:
        raise KeyUnreadable() from None


def _hint_of(api_key: str) -> str:
    """The last characters of a key: four of a long one, fewer of a short one, so that most of it stays hidden."""
    return api_key[len(api_key) - min(MAX_HINT_LENGTH, len(api_key) // 4) :]


def _encryption_context(user_id: str, provider_id: str) -> tuple[str, str, str]:
    return ("user_llm_configs", user_id, provider_id)
