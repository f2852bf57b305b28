"""Runs the migrations on the application's database, for `flask db`."""

import logging
from typing import Any

from alembic import context
from flask import current_app
from sqlalchemy import Connection

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


def run_on(connection: Connection) -> None:
    """Migrate in one transaction."""
    context.configure(
        connection=connection,
        target_metadata=database.metadata,
        process_revision_directives=prepare_new_file,
        **options,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    context.configure(
        url=current_app.config["SQLALCHEMY_DATABASE_URI"],
        target_metadata=database.metadata,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **options,
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    with database.engine.connect() as connection:
        run_on(connection)
