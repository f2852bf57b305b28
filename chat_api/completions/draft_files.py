"""The files of messages that clients of other dialects send: in the request itself, as links, or by their ids."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..attachments import references
from ..attachments.references import FoundFile, LinkedFile
from ..attachments.sendable import Sendable


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A file that is in the request. `read` decodes it, each time."""

    sha256: str
    size_bytes: int
    file_type: str
    file_name: str
    read: Callable[[], bytes]


class NamedFile(NamedTuple):
    """A file that the user has, by the id of any attachment or upload of it."""

    attachment_id: str


File = InlineFile | NamedFile | LinkedFile | FoundFile
DraftPart = str | File
"""A text, or a file, of a message in their order."""


def hash_of(file: File) -> str:
    """What tells a file from others in a history: the hash of its content, of a link that of its address."""
    if isinstance(file, LinkedFile):
        return hashlib.sha256(b"link:" + file.url.encode()).hexdigest()
    if isinstance(file, NamedFile):
        raise TypeError("The file is not found yet.")
    return file.sha256


def hash_of_stored(file: Sendable) -> str:
    """The same of a file that a message has."""
    return hash_of(LinkedFile(file.file_type, file.file_name)) if file.name is None else file.sha256


def files_of(parts: Iterable[DraftPart]) -> list[File]:
    """The files among the parts of a message."""
    return [part for part in parts if not isinstance(part, str)]


def find_named(*, user_id: str, all_parts: Sequence[Sequence[DraftPart]]) -> list[Sequence[DraftPart]]:
    """The parts of messages, with the files that are named by ids. Only reads. Raises NotFound."""
    wanted = [part.attachment_id for parts in all_parts for part in parts if isinstance(part, NamedFile)]
    if not wanted:
        return list(all_parts)
    found = references.find_files(user_id=user_id, attachment_ids=wanted)
    return [
        [found[part.attachment_id] if isinstance(part, NamedFile) else part for part in parts]
        for parts in all_parts
    ]
