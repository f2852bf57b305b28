"""The application, assembled from all packages."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from flask.sessions import NullSession, SessionInterface, SessionMixin

from config import Config

from . import errors, extensions, keyring, openapi
from .ai_sdk import routes as ai_sdk_routes
from .attachments.routes import blp as attachments
from .auth import guard, identity_provider, revocations
from .auth.routes import blp as account
from .auth.routes import public_blp as auth
from .completions import registry
from .completions.routes import blp as completions
from .conversations.routes import blp as conversations
from .database import extension as database
from .database import statements
from .files import remover, store
from .idempotency import retries
from .llm_providers.routes import blp as llm_providers
from .messages.routes import blp as messages
from .openai_api import routes as openai_routes
from .operations import key_check
from .operations.routes import blp as operations
from .search import extractor, indexer
from .search.routes import blp as search
from .server import slots
from .telemetry import logs, metrics, request_log
from .transfer.routes import blp as transfer
from .usage.routes import blp as usage
from .user_llm_configs.routes import blp as user_llm_configs
from .web import cors, request_body, responses, url_converters
from .web.application import Application
from .web.trusted_proxies import TrustedProxies

BLUEPRINTS = (
    auth,
    account,
    conversations,
    messages,
    attachments,
    llm_providers,
    user_llm_configs,
    completions,
    search,
    transfer,
    usage,
    operations,
)


class NoSessions(SessionInterface):
    """There are no cookies here: every request has the same empty session."""

    session = NullSession()

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        return self.session


class ChatApi(Application):
    """The application class, without what each request would pay for and none uses: sessions and coroutines."""

    session_interface = NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(config: Config | None = None) -> Flask:
    """Assemble the application. It connects to nothing; raises config.ConfigError for unusable settings."""
    config = config or Config.from_environment()
    app = ChatApi("chat_api", static_folder=None)
    app.config.from_mapping(config.as_flask_settings())
    app.config.from_mapping(database.settings(config))
    app.config.from_mapping(extensions.settings(config))
    app.json = responses.OrjsonProvider(app)
    logs.init_app(app)
    request_log.init_app(app)
    app.url_map.strict_slashes = False  # a slash at the end makes no difference
    url_converters.init_app(app)
    for part in (
        database,
        extensions,
        keyring,
        statements,
        revocations,
        identity_provider,
        metrics,
        slots,
        registry,
        indexer,
        extractor,
        key_check,
        store,
        remover,
        retries,
    ):
        part.init_app(app)
    app.extensions[request_body.CALLER_CHECK] = guard.require_valid
    openapi.init_app(app, BLUEPRINTS)
    openai_routes.init_app(app)
    ai_sdk_routes.init_app(app)
    errors.init_app(app)
    cors.init_app(app)
    if config.TRUSTED_PROXIES:
        count = config.TRUSTED_PROXIES
        app.wsgi_app = TrustedProxies(app.wsgi_app, count)  # type: ignore[method-assign]
    return app
