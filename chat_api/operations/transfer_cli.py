"""Operator commands `flask export` and `flask import`, which do the same as the endpoints."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import IO, Any

import click
from flask import Flask
from flask.cli import with_appcontext

from ..database.session import db
from ..transfer import service
from ..transfer.import_report import ImportReport
from ..users import service as users
from ..web.spool import disk_space_needed, spool_file
from .command_errors import uses_database
from .terminal import echo, printable


def init_app(app: Flask) -> None:
    """Register the commands."""
    app.cli.add_command(export_account)
    app.cli.add_command(import_account)


@click.command("export")
@click.argument("email")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--zip", "as_zip", is_flag=True, help="With the contents of attachments, as a zip.")
@with_appcontext
@uses_database
def export_account(email: str, file: str, *, as_zip: bool) -> None:
    """Export everything an account owns to FILE, or to standard output for -. Keys are left out.

    A FILE that ends with .zip is a zip with the contents of attachments. An existing FILE is replaced when the export
    is complete.
    """
    write = service.export_zip if as_zip or file.lower().endswith(".zip") else service.export_all
    user_id = _user_id(email)
    total = service.count_messages(user_id=user_id)
    with _replacing(file) as target, _progress(total, "Messages") as bar:
        for chunk in write(user_id):
            target.write(chunk)
            bar.update((b"\n" + chunk).count(b'\n{"type":"message"'))


@contextmanager
def _replacing(path: str) -> Iterator[IO[bytes]]:
    """A file to write to. It gets its name when the block has succeeded and everything is on disk."""
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
        raise click.FileError(printable(path), error.strerror or "") from None


def _progress(length: int, label: str) -> Any:
    """A progress bar on standard error; only the label where that is not a terminal."""
    return click.progressbar(length=length, label=label, file=sys.stderr)


@click.command("import")
@click.argument("email")
@click.argument("file", type=click.File("rb"))
@with_appcontext
@uses_database
def import_account(email: str, file: IO[bytes]) -> None:
    """Import an export in FILE, of this service or of another product, into an account; - is standard input.

    Importing the same file again changes nothing.
    """
    with spool_file() as copy:
        user_id = _user_id(email)
        if not file.seekable():
            with disk_space_needed():
                shutil.copyfileobj(file, copy)
            file = copy
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        with _progress(size_bytes, "Bytes") as bar:
            counted: Any = _CountingReader(file, bar.update)
            report, steps = service.import_file(user_id=user_id, file=counted)
            with closing(steps):
                for _ in steps:
                    db.session.commit()
    _print_report(report)


def _user_id(email: str) -> str:
    """The id of an account; leaves no transaction open."""
    user_id = users.get_user_by_email(email=email).id
    db.session.rollback()
    return user_id


def _print_report(report: ImportReport) -> None:
    """Print what an import did. Raises ClickException where something failed."""
    result = report.to_json()
    conversations = result["conversations"]
    echo(
        f"Imported {conversations['imported']} conversations with {result['messages']['imported']} messages; "
        f"{conversations['unchanged']} were here already, {conversations['failed']} failed."
    )
    if result["files"]["imported"]:
        echo(f"{result['files']['imported']} attachments got their content.")
    if conversations["updated"]:
        echo(f"{conversations['updated']} were here already and got what is new in the file.")
    if result["ended_early"]:
        echo(f"The rest of the file was not read. {result['ended_early']['detail']}", err=True)
    for note in result["notes"]:
        echo(note)
    for error in result["errors"]:
        echo(f"{error['line']}: {error['detail']}", err=True)
    if result["errors_omitted"]:
        echo(f"And {result['errors_omitted']} more errors.", err=True)
    if result["errors"]:
        raise click.ClickException("Not everything could be imported.")


class _CountingReader:
    """A file that reports how many bytes were read from it."""

    def __init__(self, file: IO[bytes], on_read: Callable[[int], None]) -> None:
        self._file, self._on_read = file, on_read

    def read(self, size: int = -1) -> bytes:
        return self._counted(self._file.read(size))

    def readline(self, size: int = -1) -> bytes:
        return self._counted(self._file.readline(size))

    def _counted(self, content: bytes) -> bytes:
        self._on_read(len(content))
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
