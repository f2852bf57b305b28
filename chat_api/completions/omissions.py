"""Why an attachment is not sent: the reasons that answers name, and what the model is told instead."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

NO_CONTENT, TYPE, MODEL, NO_TEXT, DAMAGED, LOST, TOO_LARGE, NO_ROOM = (
    "no_content",
    "unsupported_type",
    "unsupported_by_model",
    "no_text",
    "damaged",
    "lost",
    "too_large",
    "no_room",
)
# for people, and for the model
REASONS = {
    NO_CONTENT: "it is a path, of which the service has no file.",
    TYPE: "files of this type can't be sent to a model.",
    MODEL: "the model does not take files of this kind.",
    NO_TEXT: "no text was found in it, and the provider does not take the document itself.",
    DAMAGED: "it could not be read: it is damaged, or locked with a password.",
    LOST: "its content is lost.",
    TOO_LARGE: "it is larger than the files of a request may be.",
    NO_ROOM: "newer files took the room that there is for files.",
}
MAX_LISTED = 100  # of a completion, the newest


class Omission(NamedTuple):
    """An attachment that was not sent."""

    attachment_id: str
    reason: str


class Unsendable(Exception):
    """An attachment can't be sent, for one of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def omissions_to_json(omissions: Iterable[Omission]) -> list[dict[str, Any]]:
    """Omissions as clients get them."""
    return [each._asdict() for each in omissions]


def omissions_text(omissions: Iterable[Omission]) -> str | None:
    """Omissions as they are stored; None where there are none."""
    listed = omissions_to_json(omissions)
    return orjson.dumps(listed).decode() if listed else None
