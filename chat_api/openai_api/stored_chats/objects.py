"""Stored chat completions and their messages as clients get them, and what a list is asked for. Pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ...completions.records import StoredCompletion
from ...messages.parts import ATTACHMENT, TEXT
from .. import ids
from ..chat_replies import completion_object, files_of
from ..file_links import Address, ShownFile
from ..pages import filters_in, flag_in

ASKED_AS = "chat"


def asked_text(model: str, *, input_count: int) -> str:
    """What is stored with a completion of its request: the name of the model, and how many messages it had."""
    return orjson.dumps({"dialect": ASKED_AS, "model": model, "input_count": input_count}).decode()


def stored_object(
    stored: StoredCompletion, completion: Mapping[str, Any], address: Address
) -> dict[str, Any]:
    """A completion as clients get it, which is in `stored`; with the name of the model that was asked for."""
    asked = orjson.loads(stored.row["asked"] or "{}")
    model = asked.get("model") or completion["model"]
    metadata = orjson.loads(stored.row["client_metadata"] or "{}")
    made = completion_object(completion, model=model, files=files_of(stored), address=address)
    return {**made, "metadata": metadata}


def input_count_of(stored: StoredCompletion) -> int:
    """How many messages the request had; of one of another dialect the one that is answered."""
    count: int = orjson.loads(stored.row["asked"] or "{}").get("input_count", 1)
    return max(count, 1)


def message_objects(
    completion_id: str,
    messages: Sequence[Mapping[str, Any]],
    files: Mapping[str, Mapping[str, ShownFile]],
    address: Address,
) -> list[dict[str, Any]]:
    """The messages of a request; `files` are those of the messages, by their ids and the attachments'."""
    prefix = ids.written(ids.CHAT_COMPLETION, completion_id)
    return [
        {"id": f"{prefix}-{number}", **_message(message, files.get(message["id"], {}), address)}
        for number, message in enumerate(messages)
    ]


def _message(message: Mapping[str, Any], files: Mapping[str, ShownFile], address: Address) -> dict[str, Any]:
    found: dict[str, Any] = {
        "role": message["role"],
        "content": message["content"],
        "name": None,
        "content_parts": _parts(message.get("parts") or (), files, address),
    }
    if calls := message.get("tool_calls"):
        found["tool_calls"] = [
            {"id": call["id"], "type": "function",
             "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in calls
        ]  # fmt: skip
    if message.get("tool_call_id"):
        found["tool_call_id"] = message["tool_call_id"]
    return found


def _parts(
    parts: Sequence[Mapping[str, str]], files: Mapping[str, ShownFile], address: Address
) -> list[dict[str, Any]] | None:
    """The content as parts, where it has files."""
    shown: list[dict[str, Any]] = []
    for part in parts:
        if part["type"] == TEXT:
            shown.append({"type": TEXT, "text": part["text"]})
        elif part["type"] == ATTACHMENT and (file := files.get(part["attachment_id"])) is not None:
            shown.append(file.as_part(address))
    return shown or None


def filters_of(values: Mapping[str, str]) -> dict[str, Any]:
    """What narrows a list, of its query. Raises RequestRefused."""
    found = filters_in(values)
    return {
        "is_all": flag_in(values, "all") or False,
        "model": found.get("model") or None,
        "metadata": found.get("metadata"),
    }
