"""The session of SQLAlchemy and the base class of all models."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from flask import has_request_context, request
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session as FlaskSession
from sqlalchemy.orm import DeclarativeBase

from .engine import reading

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
        reads_only = has_request_context() and request.method in ("GET", "HEAD")
        return reading(engine) if reads_only else engine

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


@contextmanager
def session_and_commit() -> Iterator[None]:
    """What the session does inside the block, as one transaction: committed at its end, or undone.

    Inside a transaction of the session the block joins that one, whose end commits.
    """
    if db.session().in_transaction():
        yield
        return
    try:
        yield
        db.session.commit()
    except BaseException:
        db.session.rollback()
        raise


def is_described(name: str | None, kind: str, parents: Any) -> bool:
    """Whether the models are to describe a table: not the parts of SQLite's FTS5 (migration 0006)."""
    return kind != "table" or not (name or "").startswith("message_index")
