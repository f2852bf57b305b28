"""Conversations as clients get them, and the fields of their requests. Pure functions."""

from collections.abc import Mapping
from typing import Any

import orjson

from ...conversations.titles import title_in
from ...database.columns import seconds_of
from .. import ids
from ..chat_requests import required_metadata_of
from ..pages import filters_in, flag_in

MAX_ITEMS = 20  # of a request


def conversation_object(conversation: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation."""
    metadata = conversation["metadata"]
    return {
        "id": ids.written(ids.CONVERSATION, str(conversation["id"])),
        "object": "conversation",
        "created_at": int(seconds_of(conversation["created_at"])),
        "metadata": orjson.loads(metadata) if isinstance(metadata, str) else metadata or {},
    }


def deleted_object(conversation_id: str) -> dict[str, Any]:
    """What is said of a conversation that is gone."""
    id_ = ids.written(ids.CONVERSATION, conversation_id)
    return {"id": id_, "object": "conversation.deleted", "deleted": True}


def changes_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a request changes: the metadata, and the title that they name. Raises RequestRefused."""
    metadata = required_metadata_of(body)
    title = title_in(metadata)
    return {"metadata": metadata, **({"title": title} if title else {})}


def filters_of(values: Mapping[str, str]) -> dict[str, Any]:
    """Which conversations a list is to have: those with these metadata, archived or not. Raises RequestRefused."""
    found = {"metadata": filters_in(values).get("metadata"), "archived": flag_in(values, "archived")}
    return {name: value for name, value in found.items() if value is not None}
