"""The operator's commands of attachments' files: `flask attachments`."""

import sys

import click
from flask import Flask, current_app
from flask.cli import AppGroup

from ..files import moving, removal
from ..files.store import storage
from ..storage import FallbackStorage, Storage, open_one_storage
from .command_errors import uses_database
from .terminal import echo, printable

NAMED = 20  # of the files that could not be moved

attachments = AppGroup("attachments", help="Maintain the files of attachments.")


def init_app(app: Flask) -> None:
    """Register the commands."""
    app.cli.add_command(attachments)


@attachments.command("sweep")
@click.option("--dry-run", is_flag=True, help="Only count; change nothing.")
@uses_database
def sweep(dry_run: bool) -> None:
    """Delete what interrupted uploads and deletions have left; the service may be running.

    These are bytes without a row, older than an hour, and files that nothing refers to. Files whose bytes are gone
    are counted: the command fails if there are any.
    """
    if not dry_run:
        removal.remove_all_released_and_commit()
    swept = removal.sweep_and_commit(changes=not dry_run)
    if not dry_run:
        removal.remove_all_released_and_commit()
    echo(
        f"Interrupted uploads {swept.incoming}, bytes without a row {swept.without_row} ({swept.bytes_freed} bytes), "
        f"files that nothing refers to {swept.unused}, files whose bytes are gone {swept.without_bytes}."
    )
    if swept.without_bytes:
        raise click.ClickException(
            "Some files can't be downloaded any more: restore the storage from a backup, or let their users send them "
            "again, which brings the bytes back."
        )


@attachments.command("move")
@click.option("--to", "setting", required=True, help="The storage, as in ATTACHMENT_STORAGE.")
@click.option(
    "--remove-old", is_flag=True, help="Delete the old copies of all that is moved, after comparing it."
)
@uses_database
def move(setting: str, *, remove_old: bool) -> None:
    """Copy all files to another storage; the service may be running.

    ATTACHMENT_STORAGE is the storage that they are moved to, and ATTACHMENT_STORAGE_FALLBACK the one that they are in.
    An interrupted move goes on where it was. The old copies stay until --remove-old.
    """
    source, target = _storages(setting)
    with click.progressbar(length=moving.count_files(), label="Files", file=sys.stderr) as bar:
        work = moving.remove_copies if remove_old else moving.copy_files
        try:
            moved = work(source=source, target=target, on_file=lambda: bar.update(1))
        except moving.SameStorage:
            raise click.ClickException("Both settings name the same files; nothing was deleted.") from None
    if remove_old:
        echo(f"Old copies deleted {moved.removed}.")
    else:
        echo(
            f"Copied {moved.copied} ({moved.copied_bytes} bytes), there already {moved.there}, deleted meanwhile "
            f"{moved.deleted}, lost {len(moved.lost)}, damaged {len(moved.broken)}."
        )
    _require_whole(moved)


def _storages(setting: str) -> tuple[Storage, Storage]:
    """The storage that files are in, and the one that they are moved to. Raises ClickException."""
    config = current_app.config
    wanted = open_one_storage(
        setting=setting, data_dir=config["DATA_DIR"], endpoint_url=config["S3_ENDPOINT_URL"]
    )
    both = storage()
    if both.address != wanted.address:
        raise click.ClickException(
            f"ATTACHMENT_STORAGE is not {printable(setting)!r}. Files are moved to the storage that is in use: name "
            "the new one there and the old one in ATTACHMENT_STORAGE_FALLBACK, and restart the service."
        )
    if not isinstance(both, FallbackStorage):
        raise click.ClickException(
            "ATTACHMENT_STORAGE_FALLBACK names the same storage: there is nothing to move."
        )
    return both.second, both.first


def _require_whole(moved: moving.Moved) -> None:
    """Raise ClickException where files could not be moved, with the first of their names."""
    for what, names in (("lost", moved.lost), ("damaged", moved.broken)):
        for name in names[:NAMED]:
            echo(f"{what}: {name}", err=True)
    if moved.lost or moved.broken:
        raise click.ClickException(
            "Not all files are whole in the new storage; the old copies of these stay. Restore them from a backup, or "
            "let their users send them again."
        )
