"""The Flask extensions, made once and bound to an application by the factory."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from flask import Flask, has_request_context, request
from flask_jwt_extended import JWTManager
from flask_migrate import Migrate
from flask_smorest import Api
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session as FlaskSession
from sqlalchemy.orm import DeclarativeBase

from config import Config

from . import engines

ISSUER = "chat-api"  # of our own tokens

# Names that Alembic can drop again; `test_house_rules` checks keys and owners
NAMING_CONVENTION = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class Base(DeclarativeBase):
    metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)


class Session(FlaskSession):
    """Reads run without a transaction: a GET takes no lock on SQLite and no BEGIN and ROLLBACK on Postgres."""

    def get_bind(self, *args: Any, **kwargs: Any) -> Any:
        engine: Any = super().get_bind(*args, **kwargs)
        reading = has_request_context() and request.method in ("GET", "HEAD")
        return engines.reading(engine) if reading else engine

    def close(self) -> None:
        """Also with a connection that broke since: what it held is rolled back, and the answer is made already."""
        try:
            super().close()
        except sa.exc.DBAPIError:
            self.invalidate()


db = SQLAlchemy(model_class=Base, session_options={"class_": Session, "expire_on_commit": False})
if TYPE_CHECKING:  # Flask-SQLAlchemy makes its base class at run time; type checkers want a written one
    Model = Base
else:
    Model = db.Model


def is_described(name: str | None, kind: str, parents: Any) -> bool:
    """Whether the models are to describe a table: not the parts of SQLite's FTS5 (migration 0006)."""
    return kind != "table" or not (name or "").startswith("message_index")


migrate = Migrate(compare_type=True, render_as_batch=True, include_name=is_described)
jwt = JWTManager()
api = Api()


def settings(config: Config) -> dict[str, Any]:
    """The extensions' own settings, from the service's."""
    return {
        "SQLALCHEMY_DATABASE_URI": config.database_url,
        "SQLALCHEMY_ENGINE_OPTIONS": engines.options(
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
        engines.prepare(
            db.engine,
            wait_s=app.config["DATABASE_WAIT_S"],
            statement_timeout_s=app.config["DATABASE_STATEMENT_TIMEOUT_S"],
        )
    migrate.init_app(app, db)
    jwt.init_app(app)
