"""Commands of the operator: `flask export` and `flask import`, which do what the endpoints do."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import IO, Any

import click
from flask import Flask
from flask.cli import with_appcontext

from ..cli import told_plainly
from ..extensions import db
from ..users import service as users
from . import service
from .report import Report


def init_app(app: Flask) -> None:
    """Register the commands."""
    app.cli.add_command(export_account)
    app.cli.add_command(import_account)


@click.command("export")
@click.argument("email")
@click.argument("file", type=click.File("wb", atomic=True))
@with_appcontext
def export_account(email: str, file: IO[bytes]) -> None:
    """Write all that an account owns to FILE, or to standard output for -. Keys are left out."""
    with told_plainly():
        user_id = _user_id(email)
        total = service.count_messages(user_id=user_id)
        with click.progressbar(length=total, label="Messages", file=sys.stderr) as bar:
            for chunk in service.export_all(user_id):
                file.write(chunk)
                bar.update((b"\n" + chunk).count(b'\n{"type":"message"'))


@click.command("import")
@click.argument("email")
@click.argument("file", type=click.File("rb"))
@with_appcontext
def import_account(email: str, file: IO[bytes]) -> None:
    """Add an export in FILE, this service's or ChatGPT's, to an account; - is standard input.

    The same file twice changes nothing.
    """
    with told_plainly(), tempfile.TemporaryFile() as copy:
        user_id = _user_id(email)
        if not file.seekable():
            shutil.copyfileobj(file, copy)
            file = copy
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        with click.progressbar(length=size_bytes, label="Bytes", file=sys.stderr) as bar:
            watched: Any = _Watched(file, bar.update)
            report, steps = service.import_file(user_id=user_id, file=watched)
            for _ in steps:
                db.session.commit()
    _tell(report)


def _user_id(email: str) -> str:
    """The id of an account; without a transaction that would stay open behind this."""
    user_id = users.require_by_email(email=email).id
    db.session.rollback()
    return user_id


def _tell(report: Report) -> None:
    """Say what an import did. Raises ClickException where something failed."""
    shown = report.shown()
    conversations = shown["conversations"]
    click.echo(
        f"Imported {conversations['imported']} conversations with {shown['messages']['imported']} messages; "
        f"{conversations['unchanged']} were here already, {conversations['failed']} failed."
    )
    for note in shown["notes"]:
        click.echo(note)
    for error in shown["errors"]:
        click.echo(f"{error['line']}: {error['detail']}", err=True)
    if shown["errors_omitted"]:
        click.echo(f"And {shown['errors_omitted']} more errors.", err=True)
    if shown["errors"]:
        raise click.ClickException("Not all could be imported.")


class _Watched:
    """A file that says how many bytes were read of it."""

    def __init__(self, file: IO[bytes], on_read: Callable[[int], None]) -> None:
        self._file, self._on_read = file, on_read

    def read(self, size: int = -1) -> bytes:
        return self._watched(self._file.read(size))

    def readline(self, size: int = -1) -> bytes:
        return self._watched(self._file.readline(size))

    def _watched(self, content: bytes) -> bytes:
        self._on_read(len(content))
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
