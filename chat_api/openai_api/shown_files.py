"""Files of messages as the contents of items that stand for them. Pure functions."""

from collections.abc import Callable, Iterable
from typing import Any

from ..attachments.references import is_link
from ..attachments.sendable import Sendable
from . import ids

Address = Callable[[Sendable], str]
"""The address of a file of a message, which can be read without a token."""


def shown_files(files: Iterable[Sendable], address: Address | None = None) -> dict[str, dict[str, Any]]:
    """What stands for the files of a message, by the ids of the attachments: a picture at an address of its client's
    keeps that, others have one of this service where `address` makes them. Nothing stands for a label."""
    shown: dict[str, dict[str, Any]] = {}
    for file in files:
        if file.name is not None:
            shown[file.id] = _shown(file, address)
        elif is_link(file.file_name):
            url = file.file_name
            shown[file.id] = {"type": "input_image", "detail": "auto", "file_id": None, "image_url": url}
    return shown


def _shown(file: Sendable, address: Address | None) -> dict[str, Any]:
    file_id = ids.written(ids.FILE, file.id)
    if file.file_type.startswith("image/"):
        url = address(file) if address else None
        return {"type": "input_image", "detail": "auto", "file_id": file_id, "image_url": url}
    return {"type": "input_file", "file_id": file_id, "filename": file.file_name}
