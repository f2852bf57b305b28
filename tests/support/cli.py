"""The command line as an operator has it: Flask's own group around the application, in this process."""

from collections.abc import Callable

from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import FlaskGroup, ScriptInfo

from chat_api.operations.command_errors import load_app

# Shared: a new one looks for plugins in the metadata of all installed packages, longer than most commands take
GROUP = FlaskGroup(load_dotenv=False)


def run_flask(load: Callable[[], Flask], *arguments: str, stdin: str | bytes | None = None) -> Result:
    """Run `flask` on an application that is loaded as wsgi.py loads it."""
    application = ScriptInfo(create_app=lambda: load_app(load), load_dotenv_defaults=False)
    return CliRunner().invoke(GROUP, arguments, input=stdin, prog_name="flask", obj=application)
