"""The thread of a server that removes released files, and what has expired, in one process of the fleet at a time."""

import time
from collections.abc import Callable

from flask import Flask

from ..database.fleet_lock import try_fleet_lock
from ..server.background import BackgroundThread
from . import removal, used_links

EXTENSION = "chat_api.file_remover"
LOCK = "file-removal"
LOOK_EVERY_S = 3.0
EXPIRY_EVERY_S = 600.0


Delete = Callable[[], int]
"""Deletes a batch of what has expired, and commits; how many."""


class Remover(BackgroundThread):
    """Removes what was released, soon after the commit."""

    name = "file-remover"
    failure = "files could not be removed"

    def __init__(self, app: Flask) -> None:
        super().__init__(app)
        self._expiry_due = 0.0
        self.expiring: list[Delete] = [
            removal.delete_expired_drafts_and_commit,
            used_links.delete_expired_and_commit,
        ]

    def work(self) -> float:
        """Remove what there is."""
        expiry_is_due = time.monotonic() >= self._expiry_due
        if expiry_is_due:
            self._expiry_due = time.monotonic() + EXPIRY_EVERY_S
        if not expiry_is_due and not removal.has_released():
            return LOOK_EVERY_S
        with try_fleet_lock(LOCK) as is_held:
            if is_held:
                for delete in self.expiring if expiry_is_due else ():
                    while not self.stops and delete():
                        pass
                while not self.stops and removal.remove_released_and_commit():
                    pass
        return LOOK_EVERY_S


def add(app: Flask, delete: Delete) -> None:
    """Have something else that expires deleted, too."""
    found: Remover = app.extensions[EXTENSION]
    found.expiring.append(delete)


def init_app(app: Flask) -> None:
    """Give the application a remover, which starts with the server."""
    app.extensions[EXTENSION] = Remover(app)
