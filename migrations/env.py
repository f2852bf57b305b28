"""Runs the migrations on the application's database, for `flask db`, one process at a time."""

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

import click
import sqlalchemy as sa
from alembic import context
from flask import current_app

UPGRADE_LOCK = 0x63686174_00000001  # "chat", and a number of our own
LOOK_AGAIN_S = 0.2
MOST_TRIES = 5
DEADLOCK = "40P01"  # PostgreSQL documentation, appendix A
IN_THE_WAY = "Requests were in the way of the upgrade; trying again."
WAITING = "Another process is changing the schema; waiting for it."

log = logging.getLogger("alembic.env")
options = dict(current_app.extensions["migrate"].configure_args)
database = current_app.extensions["migrate"].db


def prepare_new_file(migration_context: Any, revision: Any, directives: Any) -> None:
    """For `flask db migrate`: no file where the models did not change, else one with the next number.

    Revisions are numbers: two branches that add one both take the same, and git stops the second.
    """
    if not getattr(context.config.cmd_opts, "autogenerate", False):
        return
    if directives[0].upgrade_ops.is_empty():
        directives[:] = []
        log.info("No changes in the models.")
    else:
        directives[0].rev_id = f"{int(context.script.get_current_head() or 0) + 1:04}"


def render_type(kind: str, item: Any, autogen_context: Any) -> str | bool:
    """For `flask db migrate`: our own column types as the plain ones that the template defines."""
    names = {"Id": "ID", "UTCDateTime": "TIME"}
    return names.get(type(item).__name__, False) if kind == "type" else False


def engine_for_migrations() -> sa.Engine:
    """On Postgres one without the service's limit on the time of a statement: an index may take minutes."""
    engine = database.engine
    if engine.dialect.name == "sqlite":
        return engine
    wait_s = current_app.config["DATABASE_WAIT_S"]
    settings = f"-c timezone=UTC -c statement_timeout=0 -c lock_timeout={wait_s}s"
    connect_args = {"connect_timeout": wait_s, "options": settings, "application_name": "chat-api-upgrade"}
    return sa.create_engine(
        engine.url, poolclass=sa.NullPool, hide_parameters=True, connect_args=connect_args
    )


@contextmanager
def one_at_a_time(connection: sa.Connection) -> Iterator[None]:
    """Wait until no other process changes the schema. The lock goes with the process, however that ends."""
    if connection.dialect.name == "postgresql":
        end_with_the_client(connection)
        lock_on_postgres(connection)
        yield
    elif connection.engine.url.database in (None, "", ":memory:"):  # nobody else's
        yield
    else:
        with Path(f"{connection.engine.url.database}-upgrade-lock").open("w") as file:
            lock_file(file)
            yield


def end_with_the_client(connection: sa.Connection) -> None:
    """Have the server end a statement whose client was killed; else an index goes on being built, with the lock held.

    Needs Postgres 14 or newer, on a system that can say so. Elsewhere the next upgrade waits.
    """
    try:
        connection.exec_driver_sql("SET client_connection_check_interval = '500ms'")
        connection.commit()
    except sa.exc.DBAPIError:
        connection.rollback()


def lock_on_postgres(connection: sa.Connection) -> None:
    """The session's, so that it outlives transactions; by trying, as waiting would be ended by lock_timeout."""
    attempt = sa.text("SELECT pg_try_advisory_lock(:key)")
    waits = False
    while not connection.scalar(attempt, {"key": UPGRADE_LOCK}):
        connection.commit()
        if not waits:
            click.echo(WAITING, err=True)
        waits = True
        time.sleep(LOOK_AGAIN_S)
    connection.commit()


def lock_file(file: IO[str]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        click.echo(WAITING, err=True)
        fcntl.flock(file, fcntl.LOCK_EX)


def changes_the_schema() -> bool:
    """Whether this is an upgrade, a downgrade or a stamp, and not a look at the schema."""
    try:
        context.get_revision_argument()
    except KeyError:
        return False
    return True


def run_on(connection: sa.Connection) -> None:
    """Migrate, with a transaction for each revision."""
    context.configure(
        connection=connection,
        target_metadata=database.metadata,
        process_revision_directives=prepare_new_file,
        transaction_per_migration=True,
        render_item=render_type,
        alembic_module_prefix="steps.",
        **options | {"render_as_batch": False},
    )
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Migrate on a connection of its own."""
    with (
        engine_for_migrations().connect() as connection,
        one_at_a_time(connection) if changes_the_schema() else nullcontext(),
    ):
        run_on(connection)
        connection.invalidate()  # autocommit blocks change how the driver begins transactions: nobody else may get it


def run_until_no_deadlock() -> None:
    """Migrate; again, where Postgres ended the transaction of a revision for one of the service that is in use.

    Both lock several tables, in whatever order. What was committed is not done again.
    """
    for tries_left in reversed(range(MOST_TRIES)):
        try:
            return run_online()
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != DEADLOCK or not tries_left:
                raise
            click.echo(IN_THE_WAY, err=True)


if context.is_offline_mode():
    context.configure(
        url=current_app.config["SQLALCHEMY_DATABASE_URI"],
        target_metadata=database.metadata,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        transaction_per_migration=True,
        **options,
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    run_until_no_deadlock()
