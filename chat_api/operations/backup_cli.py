"""Operator commands `flask backup` and `flask restore`, for both databases."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from flask import Flask
from flask.cli import with_appcontext

from . import backup
from .backup import BackupError
from .backup_report import Progress
from .command_errors import uses_database
from .service import known_revisions
from .terminal import echo, printable


def init_app(app: Flask) -> None:
    """Register the commands."""
    app.cli.add_command(write_backup)
    app.cli.add_command(restore_backup)


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@with_appcontext
@uses_database
def write_backup(file: Path) -> None:
    """Back up the whole database to a new FILE; the service may be running.

    FILE holds all that was committed when the backup began. It appears when it is complete, verified and on disk.
    """
    began = time.monotonic()
    with _ending_in_order(), _errors_as_lines(), _progress_bar("Backing up") as progress:
        report = backup.back_up(file, progress)
    echo(
        f"Backed up {_contents(report)} to {file} ({file.stat().st_size / 2**20:.1f} MiB) "
        f"in {time.monotonic() - began:.1f} s."
    )


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace all that is in the database.")
@with_appcontext
def restore_backup(file: Path, overwrite: bool) -> None:
    """Fill an empty database with the backup in FILE; stop the service before.

    The backup must be of the same kind of database. Everything is restored, or nothing.
    """
    with _ending_in_order(), _errors_as_lines(), _progress_bar("Restoring") as progress:
        report = backup.restore(file, progress, overwrite=overwrite)
    echo(f"Restored {_contents(report)} from {file}.")
    if report.revision != known_revisions()[0]:
        echo("The schema is older than this version's: run `flask db upgrade`.")


def _contents(report: backup.Report) -> str:
    rows = report.rows
    return (
        f"{rows.get('users', 0)} users, {rows.get('conversations', 0)} conversations and "
        f"{rows.get('messages', 0)} messages, schema {report.revision},"
    )


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as an exception, so that what it has begun is removed or rolled back."""
    if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the clearing up
        sys.exit(128 + number)

    # one that is ignored stays so, as by nohup
    heeded = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _errors_as_lines() -> Iterator[None]:
    try:
        yield
    except BackupError as error:
        raise click.ClickException(printable(str(error))) from error


@contextmanager
def _progress_bar(label: str) -> Iterator[Progress]:
    """A progress bar on standard error; only the label where that is not a terminal."""
    with click.progressbar(length=100, label=label, file=sys.stderr) as bar:

        def update(done: int, total: int) -> None:
            percent = done * 100 // total if total else 100
            bar.update(percent - bar.pos)

        yield update
