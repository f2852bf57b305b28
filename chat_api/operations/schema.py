"""The application of `flask db upgrade` and its like: settings and database, without views, models and statements."""

from collections.abc import Sequence

from flask import Flask

from config import Config

from ..database import extension as database
from ..telemetry import logs

COMMANDS = ("upgrade", "current", "history", "heads")


def is_enough_for(arguments: Sequence[str]) -> bool:
    """Whether this command line needs no more of the service. click has not read it when the application is loaded."""
    return arguments[-2:-1] == ["db"] and arguments[-1] in COMMANDS


def create_schema_app() -> Flask:
    """Assemble it. Raises config.ConfigError for unusable settings."""
    config = Config.from_environment()
    app = Flask("chat_api", static_folder=None)
    app.config.from_mapping(config.as_flask_settings())
    app.config.from_mapping(database.settings(config))
    logs.init_app(app)
    database.init_app(app)
    return app
