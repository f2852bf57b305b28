"""One-line answers to what goes wrong in a command: settings, the database and its schema, bad input."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click
import sqlalchemy as sa
from flask import Flask, current_app

from config import ConfigError, misspelt_settings

from ..database import extension as database_extension
from ..database.session import db
from ..errors import ApiError, database_errors, describe, driver_errors
from . import service
from .schema import is_enough_for
from .terminal import printable

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def load_app(create_app: Callable[[], Flask], create_schema_app: Callable[[], Flask] | None = None) -> Flask:
    """Create the application. In `flask`, all commands then end with one line instead of a traceback.

    For commands to which the schema is enough `create_schema_app` makes it, which takes half as long.
    That holds for the commands of Flask and of its extensions, too: the error passes click's outermost context.
    """
    context = click.get_current_context(silent=True)
    if context is None:  # in a server
        return create_app()
    try:
        if create_schema_app and is_enough_for(sys.argv):
            app = create_schema_app()
        else:
            app = create_app()
            _add_commands(app)
    except ConfigError as error:  # `flask --help` would print the traceback of any exception
        for line in str(error).splitlines():
            click.echo(f"Error: {printable(line)}", err=True)
        sys.exit(os.EX_CONFIG)
    for sentence in misspelt_settings():
        click.echo(f"Warning: {printable(sentence)}", err=True)
    database_extension.add_migrations(app)
    context.find_root().with_resource(_errors_as_lines(_database_of(app)))
    return app


def _add_commands(app: Flask) -> None:
    from . import commands  # they import what no server needs

    commands.init_app(app)


@contextmanager
def _errors_as_lines(database: str) -> Iterator[None]:
    """Turn the errors that an operator can do something about into click's, which are printed as a line."""
    try:
        yield
    except ApiError as error:
        texts = [text for found in error.extra.get("errors", {}).values() for text in found]
        raise click.ClickException(printable(" ".join(texts) or error.detail)) from error
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # `flask … | head`: click ends without a word
        where = f": {error.filename}" if error.filename else ""
        raise click.ClickException(printable(f"{error.strerror or error}{where}.")) from error
    except database_errors() as error:
        if _is_fault_of_ours(error):
            raise  # the traceback says where
        raise click.ClickException(_about(database, describe(error).partition(": ")[2])) from error


def uses_database(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Run a command only where the database has the schema of this version."""

    @wraps(command)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        problem = service.schema_problem()
        db.session.rollback()  # no transaction stays open for a check
        if problem is not None:
            raise click.ClickException(_about(_database_of(current_app), problem))
        return command(*args, **kwargs)

    return checked


def _is_fault_of_ours(error: Exception) -> bool:
    """Whether the code is wrong and not the database: it breaks a constraint, or misuses SQLAlchemy."""
    is_from_driver = isinstance(error, sa.exc.DBAPIError | sa.exc.TimeoutError)
    is_misuse = isinstance(error, sa.exc.SQLAlchemyError) and not is_from_driver
    return is_misuse or isinstance(getattr(error, "orig", error), driver_errors("IntegrityError"))


def _about(database: str, problem: str) -> str:
    return printable(f"database {database}: {problem}")


def _database_of(app: Flask) -> str:
    """Which database it is, without its password: a wrong DATA_DIR or DATABASE_URL is seen at once."""
    url = sa.make_url(app.config["SQLALCHEMY_DATABASE_URI"])
    host: Any = url.host or url.query.get("host") or "the local server"
    return str(url.database) if url.drivername == "sqlite" else f"{url.database} at {host}"
