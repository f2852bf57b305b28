"""Deleting an item: with its message, if that is this one item and nothing answers it; else it is erased there."""

from collections.abc import Iterator, Mapping
from typing import Any

from ...completions.erasing import SAID, erase_all, erase_part, rest_of
from ...completions.replies import logs_of
from ...completions.reply_log import START
from ...conversations import service as conversations
from ...errors import NotFound
from ...messages import deletion
from ...messages import service as messages
from ...messages.parts import is_place_only
from ...messages.title_words import title_follows
from ..items_out import chunks_of
from .items import Found, get_item


def delete_item(*, user_id: str, conversation_id: str, named: str) -> Iterator[None]:
    """Delete an item of the active path, in steps, each to be committed. The first one raises NotFound."""
    conversations.lock_conversation(user_id=user_id, conversation_id=conversation_id)
    found = get_item(user_id=user_id, conversation_id=conversation_id, named=named)
    message = found.message
    if len(found.items) > 1 or messages.has_answers(user_id=user_id, message=message):
        with title_follows(user_id=user_id, conversation_id=conversation_id):
            _erase(user_id, found)
        yield
        return
    yield from deletion.delete_message(user_id=user_id, message_id=message["id"])
    yield from _delete_places(user_id, conversation_id, message["parent_id"])


def _erase(user_id: str, found: Found) -> None:
    message = found.message
    if message["role"] != "assistant":
        erase_all(user_id=user_id, message=message, erased={"0": SAID})
        return
    log = logs_of(user_id=user_id, messages=[message]).get(message["id"])
    chunks = chunks_of(message) if log is None else log.after(START)
    rest = rest_of(chunks=chunks, part=found.place, erased=message.get("erased") or {})
    if len(found.items) == 1:
        erase_all(user_id=user_id, message=message, erased=rest.erased)
    else:
        erase_part(user_id=user_id, message=message, rest=rest)


def _delete_places(user_id: str, conversation_id: str, message_id: str | None) -> Iterator[None]:
    """Delete the places of erased messages that nothing is left to answer."""
    while message_id is not None:
        conversations.lock_conversation(user_id=user_id, conversation_id=conversation_id)
        place = _find(user_id, message_id)
        if place is None or not is_place_only(place) or messages.has_answers(user_id=user_id, message=place):
            return
        yield from deletion.delete_message(user_id=user_id, message_id=message_id)
        message_id = place["parent_id"]


def _find(user_id: str, message_id: str) -> Mapping[str, Any] | None:
    try:
        return messages.get_message(user_id=user_id, message_id=message_id)
    except NotFound:
        return None
