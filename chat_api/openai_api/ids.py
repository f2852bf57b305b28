"""Ids as they stand below /v1: a prefix, and the 32 digits of ours. Read liberally: the prefix may be missing.

The id of an item is that of its message, with the prefix of what it is. So it is known before the first token, and
stays the same in every event, object and list.
"""

import re
import uuid
from typing import NamedTuple

CONVERSATION, CHAT_COMPLETION, RESPONSE, FILE = "conv_", "chatcmpl-", "resp_", "file-"
MESSAGE, REASONING, CALL, RESULT = "msg_", "rs_", "fc_", "fco_"
COMPACTION = "cmp_"
_DIGITS = "[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"
PATTERN = f"(?:conv_|chatcmpl-|resp_|file-)?{_DIGITS}"
ITEM_PATTERN = f"(?:msg_|rs_|fc_|fco_)?{_DIGITS}(?:_[0-9]{{1,6}})?"
_ID = re.compile(PATTERN)
_ITEM = re.compile(f"(msg_|rs_|fc_|fco_)?({_DIGITS})(?:_([0-9]{{1,6}}))?")


class ItemId(NamedTuple):
    """Which item an id means."""

    prefix: str  # empty where it is missing
    message_id: str
    place: int | None  # of the item among those of its message, where the id has it


def written(prefix: str, id_: str) -> str:
    """An id of ours as clients get it."""
    return prefix + id_.replace("-", "")


def read(text: str) -> str | None:
    """The id of ours that a client means; None for what is no id."""
    if not _ID.fullmatch(text):
        return None
    return str(uuid.UUID(text.rpartition("_")[2].removeprefix(CHAT_COMPLETION).removeprefix(FILE)))


def item_id(prefix: str, message_id: str, place: int | None = None) -> str:
    """The id of an item of a message; with its place among them where another has the same prefix, or may have."""
    whole = written(prefix, message_id)
    return whole if place is None else f"{whole}_{place}"


def read_item(text: str) -> ItemId | None:
    """The item that a client means; None for what is no id of one."""
    found = _ITEM.fullmatch(text)
    if found is None:
        return None
    prefix, digits, place = found.groups()
    return ItemId(prefix or "", str(uuid.UUID(digits)), int(place) if place else None)
