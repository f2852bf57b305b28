"""The command line as an operator has it: Flask's own group around the application, in this process."""

from collections.abc import Callable

from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import FlaskGroup

from chat_api.operations.command_errors import load_app


def run_flask(load: Callable[[], Flask], *arguments: str, stdin: str | bytes | None = None) -> Result:
    """Run `flask` on an application that is loaded as wsgi.py loads it."""

    group = FlaskGroup(create_app=lambda: load_app(load), load_dotenv=False)
    return CliRunner().invoke(group, arguments, input=stdin, prog_name="flask")
