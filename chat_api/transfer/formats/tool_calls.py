"""Replies that hold calls of tools and their results, as messages of their own in a row."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from .message_tree import SourceCall, SourceMessage
from .texts import storable

_JSON_OPTIONS = orjson.OPT_NON_STR_KEYS


@dataclass(slots=True)
class Text:
    """What is said."""

    text: str


@dataclass(slots=True)
class Call:
    """A call; one without an id gets one."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class Result:
    """The result of a call: the one with its id, else the first that has none yet."""

    id: str
    text: str


Part = Text | Call | Result


def arguments_of(value: Any) -> str:
    """The arguments of a call as JSON text."""
    if isinstance(value, str):
        return storable(value)
    try:
        return storable(orjson.dumps({} if value is None else value, option=_JSON_OPTIONS).decode())
    except (TypeError, orjson.JSONEncodeError):  # such as half a surrogate pair
        return "{}"


class Replies:
    """Collects the messages of a conversation, of which one in the file may be several here."""

    def __init__(self) -> None:
        self.messages: dict[str, SourceMessage] = {}
        self.ends: dict[str, str] = {}  # of each message in the file the last one that was made of it

    def __contains__(self, key: str) -> bool:
        return key in self.ends

    def add(self, key: str, parent: str | None, made: list[SourceMessage]) -> None:
        """Add what was made of a message; it answers the last one that was made of its parent."""
        last: str | None = parent
        for index, message in enumerate(made):
            own_key = key if index == 0 else f"{key}\x1f{index}"
            message.parent, last = last, own_key
            self.messages[own_key] = message
            self.ends[key] = own_key

    def finish(self) -> dict[str, SourceMessage]:
        """All messages, when the last one was added: also a parent that came later in the file is known now."""
        for key in self.ends:
            message = self.messages[key]
            if message.parent is not None:
                message.parent = self.ends.get(message.parent, message.parent)
        return self.messages


def messages_of(
    role: str, parts: Iterable[Part], *, created_at: datetime | None, omitted: int = 0
) -> list[SourceMessage]:
    """The messages that a message with calls and results becomes, each the answer to the one before it."""
    made: list[SourceMessage] = []
    open_ids: dict[str, None] = {}
    texts: list[str] = []
    calls: list[SourceCall] = []

    def end_message() -> None:
        if texts or calls:
            own_role = "assistant" if calls else role
            made.append(SourceMessage(None, own_role, "\n\n".join(texts), created_at, list(calls)))
            texts.clear()
            calls.clear()

    for count, part in enumerate(parts, 1):
        if isinstance(part, Text):
            texts.append(part.text)
        elif isinstance(part, Call):
            call = SourceCall(part.id or f"call_{count}", part.name, part.arguments)
            calls.append(call)
            open_ids[call.id] = None
        else:
            end_message()
            call_id = part.id if part.id in open_ids else next(iter(open_ids), None)
            if call_id is not None:
                del open_ids[call_id]
            made.append(SourceMessage(None, "tool", part.text, created_at, call_id=call_id))
    end_message()
    made = made or [SourceMessage(None, role, "", created_at)]
    made[0].omitted = omitted
    return made
