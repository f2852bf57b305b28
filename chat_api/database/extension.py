"""Binding the database to an application: its settings, its engine, and for commands the migrations."""

from typing import Any

from flask import Flask

from config import Config

from . import engine
from .session import db, is_described


def settings(config: Config) -> dict[str, Any]:
    """Flask-SQLAlchemy's settings, from the service's."""
    return {
        "SQLALCHEMY_DATABASE_URI": config.database_url,
        "SQLALCHEMY_ENGINE_OPTIONS": engine.options(
            config.database_url,
            pool_size=config.DATABASE_POOL_SIZE,
            wait_s=config.DATABASE_WAIT_S,
            statement_timeout_s=config.DATABASE_STATEMENT_TIMEOUT_S,
        ),
    }


def init_app(app: Flask) -> None:
    """Bind the database to the application; nothing connects yet."""
    db.init_app(app)
    with app.app_context():
        engine.prepare(
            db.engine,
            wait_s=app.config["DATABASE_WAIT_S"],
            statement_timeout_s=app.config["DATABASE_STATEMENT_TIMEOUT_S"],
        )


def add_migrations(app: Flask) -> None:
    """Prepare the application for `flask db`, which a server never runs: Alembic takes a tenth of a start."""
    from flask_migrate import Migrate

    Migrate(app, db, compare_type=True, render_as_batch=True, include_name=is_described)
