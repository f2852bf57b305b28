"""Files of messages as chat completions show them: pictures and others. Pure functions."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..attachments.references import is_link
from . import ids

Address = Callable[[str], str]
"""The address of the content of an attachment, by its id."""


class ShownFile(NamedTuple):
    """A file of a message. `link` is its address where the file is not here."""

    id: str
    file_type: str
    file_name: str
    link: str | None = None

    @property
    def is_image(self) -> bool:
        """Whether it is a picture."""
        return self.file_type.startswith("image/")

    def as_part(self, address: Address) -> dict[str, Any]:
        """As a part of a content."""
        url = self.link or address(self.id)
        if self.is_image:
            return {"type": "image_url", "image_url": {"url": url, "detail": "auto"}}
        file = {"file_id": ids.written(ids.FILE, self.id), "filename": self.file_name, "file_url": url}
        return {"type": "file", "file": file}


def shown(attachment: Mapping[str, Any]) -> ShownFile:
    """A file as it is described in a reply."""
    return ShownFile(str(attachment["id"]), attachment["file_type"], attachment["file_name"])


def shown_link(path: str) -> str | None:
    """The address that a label's path is, None where it is none."""
    return path if is_link(path) else None
