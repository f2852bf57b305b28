"""Title and flags of a conversation that is imported more than once: what the file changed, and what was changed here.

What the newest file said is kept with the conversation. So a field that differs from it was changed here, and stays;
any other one follows the files. A field that a file does not have says nothing.
"""

from datetime import datetime
from typing import Any, NamedTuple

import orjson

DETAILS = ("title", "archived", "pinned", "client_metadata")
DEFAULTS: dict[str, Any] = {"title": "Untitled", "archived": False, "pinned": False, "client_metadata": None}
Fields = dict[str, Any]


class Known(NamedTuple):
    """What is known of a conversation that is here."""

    imported: str | None
    """What `as_imported` made of the newest file that it was imported from, if there was one."""
    updated_at: datetime


class Merged(NamedTuple):
    """What becomes of a conversation's details."""

    changes: Fields
    """Those that the file changes."""
    kept: list[str]
    """Names of those that differ from the file and stay."""


def as_imported(fields: Fields, earlier: str | None = None) -> str:
    """What to keep of a file's conversation: its details and time, over those of an earlier file."""
    said = {name: fields[name] for name in DETAILS if fields[name] is not None}
    return orjson.dumps({**_read(earlier), **said, "updated_at": fields["updated_at"]}).decode()


def is_newer(fields: Fields, known: Known) -> bool:
    """Whether a file is newer than the newest one that was imported; where none was, than what is here."""
    earlier = _read(known.imported)
    updated_at = datetime.fromisoformat(earlier["updated_at"]) if earlier else known.updated_at
    newer: bool = fields["updated_at"] > updated_at
    return newer


def merge(fields: Fields, here: Fields, known: Known) -> Merged:
    """Compare a file with what is here, and with what the newest file said that was imported, if there was one."""
    differ = [name for name in DETAILS if fields[name] is not None and here[name] != fields[name]]
    if not is_newer(fields, known):
        return Merged({}, differ)
    earlier = _read(known.imported)
    kept = [name for name in differ if here[name] != earlier.get(name, here[name])]
    return Merged({name: fields[name] for name in differ if name not in kept}, kept)


def with_defaults(fields: Fields) -> Fields:
    """The fields of a new conversation."""
    return {**fields, **{name: DEFAULTS[name] for name in DETAILS if fields[name] is None}}


def name_of(detail: str) -> str:
    """What clients call it."""
    return detail.removeprefix("client_")


def _read(imported: str | None) -> Fields:
    said: Fields = orjson.loads(imported) if imported else {}
    return said
