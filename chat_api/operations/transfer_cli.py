"""Commands of the operator: `flask export` and `flask import`, which do what the endpoints do."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import click
from flask import Flask
from flask.cli import with_appcontext

from ..database.session import db
from ..transfer import service
from ..transfer.import_report import ImportReport
from ..users import service as users
from .cli import cli_errors


def init_app(app: Flask) -> None:
    """Register the commands."""
    app.cli.add_command(export_account)
    app.cli.add_command(import_account)


@click.command("export")
@click.argument("email")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@with_appcontext
def export_account(email: str, file: str) -> None:
    """Write all that an account owns to FILE, or to standard output for -. Keys are left out.

    A FILE that is there already is replaced when the export is complete.
    """
    with cli_errors():
        user_id = _user_id(email)
        total = service.count_messages(user_id=user_id)
        with _writing(file) as target, _progress(total, "Messages") as bar:
            for chunk in service.export_all(user_id):
                target.write(chunk)
                bar.update((b"\n" + chunk).count(b'\n{"type":"message"'))


@contextmanager
def _writing(path: str) -> Iterator[IO[bytes]]:
    """The file to write to, which takes its name when the block has ended well, with all of it on disk."""
    if path == "-" or (os.path.exists(path) and not os.path.isfile(path)):  # a pipe, say
        with click.open_file(path, "wb") as stream:
            yield stream
        return
    try:
        folder, name = os.path.split(os.path.realpath(path))
        handle, unfinished = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
        try:
            with open(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(handle)
            os.replace(unfinished, os.path.join(folder, name))
        except BaseException:
            os.unlink(unfinished)
            raise
    except OSError as error:
        raise click.FileError(path, error.strerror or "") from None


def _progress(length: int, label: str) -> Any:
    """A progress bar on standard error; the label alone where that is no terminal."""
    return click.progressbar(length=length, label=label, file=sys.stderr)


@click.command("import")
@click.argument("email")
@click.argument("file", type=click.File("rb"))
@with_appcontext
def import_account(email: str, file: IO[bytes]) -> None:
    """Add an export in FILE, this service's or ChatGPT's, to an account; - is standard input.

    The same file twice changes nothing.
    """
    with cli_errors(), tempfile.TemporaryFile() as copy:
        user_id = _user_id(email)
        if not file.seekable():
            shutil.copyfileobj(file, copy)
            file = copy
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        with _progress(size_bytes, "Bytes") as bar:
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


def _tell(report: ImportReport) -> None:
    """Say what an import did. Raises ClickException where something failed."""
    shown = report.to_json()
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
