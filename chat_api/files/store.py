"""The application's storage, and the names of files in it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, current_app

from ..errors import Unavailable
from ..storage import Storage, open_storage

EXTENSION = "chat_api.storage"

log = logging.getLogger(__name__)


def init_app(app: Flask) -> None:
    """Open the storage that the settings name; it connects to nothing yet."""
    app.extensions[EXTENSION] = open_storage(
        setting=app.config["ATTACHMENT_STORAGE"],
        data_dir=app.config["DATA_DIR"],
        endpoint_url=app.config["S3_ENDPOINT_URL"],
        fallback=app.config["ATTACHMENT_STORAGE_FALLBACK"],
        is_group_readable=bool(app.config["ACCEL_REDIRECT"]),
    )


def storage() -> Storage:
    """The storage of this application."""
    stored: Storage = current_app.extensions[EXTENSION]
    return stored


@contextmanager
def storage_needed(hint: str = "Retry.") -> Iterator[None]:
    """For a request that can't do without the storage: raises Unavailable (503) where that fails, which may pass."""
    try:
        yield
    except OSError as error:
        log.warning("the storage of files can't be used: %s", error)
        raise Unavailable(f"The storage for files is unavailable at the moment. {hint}") from error


def name_of(user_id: str, file_id: str) -> str:
    """The name of a file in the storage."""
    return f"{user_id}/{file_id}"
