"""All commands of the service. A server has none, and does without what only they import."""

from flask import Flask

from . import attachments_cli, backup_cli, cli, transfer_cli


def init_app(app: Flask) -> None:
    """Add them to the application."""
    for commands in (cli, transfer_cli, backup_cli, attachments_cli):
        commands.init_app(app)
