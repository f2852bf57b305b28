"""chat-api: the self-hosted, headless back end of LLM chat applications."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from config import Config


def create_app(config: "Config | None" = None) -> "Flask":
    """Assemble the application. It connects to nothing; raises config.ConfigError for unusable settings."""
    from . import factory  # all packages, which `flask db upgrade` has no use for

    return factory.create_app(config)
