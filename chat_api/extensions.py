"""The Flask extensions, made once and bound to an application by the factory."""

from datetime import timedelta
from typing import Any

from flask import Flask
from flask_jwt_extended import JWTManager

from config import Config

ISSUER = "chat-api"  # of our own tokens

jwt = JWTManager()


def settings(config: Config) -> dict[str, Any]:
    """The extensions' own settings, from the service's."""
    return {
        "MAX_CONTENT_LENGTH": config.MAX_BODY_BYTES,
        "JWT_ALGORITHM": "HS256",
        "JWT_COOKIE_CSRF_PROTECT": False,  # no cookies here; the claim would only make tokens longer
        "JWT_ACCESS_TOKEN_EXPIRES": timedelta(minutes=config.ACCESS_TOKEN_MINUTES),
        "JWT_REFRESH_TOKEN_EXPIRES": timedelta(days=config.REFRESH_TOKEN_DAYS),
        "JWT_ENCODE_ISSUER": ISSUER,
        "JWT_DECODE_ISSUER": ISSUER,
    }


def init_app(app: Flask) -> None:
    """Bind all extensions to the application."""
    jwt.init_app(app)
