"""The items of messages that are stored, read with the logs of their replies."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..attachments import sendable
from ..completions.replies import logs_of
from ..completions.reply_log import START
from ..messages import service as messages
from .ids import ItemId
from .items_out import Item, find_item, message_items
from .shown_files import Address, shown_files


def items_of(
    *, user_id: str, stored: Sequence[Mapping[str, Any]], address: Address | None = None
) -> list[Item]:
    """The items of messages, in the order of these. `address` makes addresses of their pictures."""
    return [item for its in _items_by_message(user_id, stored, address).values() for item in its]


def find_items(*, user_id: str, wanted: Mapping[str, ItemId]) -> dict[str, Item]:
    """Those of the wanted items that the user has, by the same names, in whatever conversations they are."""
    if not wanted:
        return {}
    message_ids = dict.fromkeys(item.message_id for item in wanted.values())
    stored = messages.list_by_ids(user_id=user_id, message_ids=list(message_ids))
    items = _items_by_message(user_id, stored)
    found = {named: find_item(items.get(item.message_id, ()), named) for named, item in wanted.items()}
    return {named: item for named, item in found.items() if item is not None}


def _items_by_message(
    user_id: str, stored: Sequence[Mapping[str, Any]], address: Address | None = None
) -> dict[str, list[Item]]:
    logs = logs_of(user_id=user_id, messages=stored)
    asking = [message["id"] for message in stored if message["role"] == "user"]
    files = sendable.list_of_messages(user_id=user_id, message_ids=asking) if asking else {}
    return {
        message["id"]: message_items(
            message,
            logs[message["id"]].after(START) if message["id"] in logs else None,
            shown_files(files.get(message["id"], ()), address),
        )
        for message in stored
    }
