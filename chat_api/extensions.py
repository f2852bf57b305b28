"""The Flask extensions, made once and bound to an application by the factory."""

from datetime import timedelta
from typing import Any

from flask import Flask
from flask_jwt_extended import JWTManager
from flask_migrate import Migrate
from flask_smorest import Api

from config import Config

from .database import engine
from .database.session import db, is_described

ISSUER = "chat-api"  # of our own tokens

migrate = Migrate(compare_type=True, render_as_batch=True, include_name=is_described)
jwt = JWTManager()
api = Api()


def settings(config: Config) -> dict[str, Any]:
    """The extensions' own settings, from the service's."""
    return {
        "SQLALCHEMY_DATABASE_URI": config.database_url,
        "SQLALCHEMY_ENGINE_OPTIONS": engine.options(
            config.database_url,
            pool_size=config.DATABASE_POOL_SIZE,
            wait_s=config.DATABASE_WAIT_S,
            statement_timeout_s=config.DATABASE_STATEMENT_TIMEOUT_S,
        ),
        "MAX_CONTENT_LENGTH": config.MAX_BODY_BYTES,
        "JWT_ALGORITHM": "HS256",
        "JWT_COOKIE_CSRF_PROTECT": False,  # no cookies here; the claim would only make tokens longer
        "JWT_ACCESS_TOKEN_EXPIRES": timedelta(minutes=config.ACCESS_TOKEN_MINUTES),
        "JWT_REFRESH_TOKEN_EXPIRES": timedelta(days=config.REFRESH_TOKEN_DAYS),
        "JWT_ENCODE_ISSUER": ISSUER,
        "JWT_DECODE_ISSUER": ISSUER,
    }


def init_app(app: Flask) -> None:
    """Bind all extensions to the application; nothing connects yet."""
    db.init_app(app)
    with app.app_context():
        engine.prepare(
            db.engine,
            wait_s=app.config["DATABASE_WAIT_S"],
            statement_timeout_s=app.config["DATABASE_STATEMENT_TIMEOUT_S"],
        )
    migrate.init_app(app, db)
    jwt.init_app(app)
