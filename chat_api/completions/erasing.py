"""Erasing a part of a message, or all that it says, where the message stays as a place in the tree.

What is erased is gone: text, words, files, thoughts. `erased` of the message says which kinds of parts there were, and
at which places, so that the parts after them keep theirs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from ..attachments.models import Attachment
from ..conversations.models import Conversation
from ..database.parameters import CONVERSATION_ID, MESSAGE_ID, USER_ID, given, named_new, new
from ..database.session import db
from ..database.statements import Statement
from ..files import service as files
from ..messages import service as messages
from ..messages.models import Message
from ..messages.parts import TEXT as TEXT_PART
from ..messages.parts import encoded
from ..search_index import updates as index_updates
from ..search_index import writer as index_writer
from ..search_index.writer import words_of
from .models import Completion
from .reply_log import REASONING, TEXT, TOOL_CALL, Chunk, ReplyLog

SAID = "message"  # the one part of a message that is no reply
PARTS = (TEXT, REASONING, TOOL_CALL)
ERASED_KINDS = (SAID, *PARTS)

_CHANGED = (
    "content",
    "size_bytes",
    "tool_calls",
    "sources",
    "parts",
    "provider_state",
    "chain_hash",
    "erased",
)
_ERASE = Statement(
    sa.update(Message)
    .where(Message.user_id == USER_ID, Message.id == MESSAGE_ID)
    .values({name: new(getattr(Message, name)) for name in _CHANGED})
)
_SIZE = Statement(sa.select(Message.size_bytes).where(Message.user_id == USER_ID, Message.id == MESSAGE_ID))
_SHRINK = Statement(
    sa.update(Conversation)
    .where(Conversation.user_id == USER_ID, Conversation.id == CONVERSATION_ID)
    .values(content_bytes=Conversation.content_bytes - given("bytes", sa.BigInteger()))
)
_FORGET = Statement(
    sa.update(Completion)
    .where(
        Completion.user_id == USER_ID,
        Completion.parent_id == given("parent_id"),
        Completion.message_id == MESSAGE_ID,
    )
    .values(reasoning=new(Completion.reasoning), outline=new(Completion.outline))
)


class Rest(NamedTuple):
    """What is left of a reply, and what was erased of it so far, by the places of the parts."""

    log: ReplyLog
    erased: dict[str, str]


def rest_of(*, chunks: Sequence[Chunk], part: int, erased: Mapping[str, str]) -> Rest:
    """A reply without one of its parts, which are counted from 0: texts, thoughts and calls."""
    kept: list[Chunk] = []
    number, kind = -1, ""
    gone = ""
    for chunk in chunks:
        if chunk.kind in PARTS:
            if chunk.kind != kind or kind == TOOL_CALL:
                number, kind = number + 1, chunk.kind
            if number == part:
                gone = kind
                continue
        kept.append(chunk)
    places = [place for place in range(number + 1 + len(erased)) if str(place) not in erased]
    return Rest(ReplyLog(kept), {**erased, str(places[part]): gone})


def erase_part(*, user_id: str, message: Mapping[str, Any], rest: Rest) -> None:
    """Leave of a reply what the rest is, in the session's transaction. Its conversation is locked."""
    log = rest.log
    fields = {
        "content": log.text_of(TEXT),
        "tool_calls": log.tool_calls(),
        "parts": _parts_left(message, log.text_of(TEXT)),
        "erased": orjson.dumps(rest.erased).decode(),
    }
    _change(user_id, message, fields)
    outline = [(chunk.kind, chunk.length) for chunk in log.after(0)]
    _FORGET.all(
        user_id=user_id,
        parent_id=message["parent_id"],
        message_id=message["id"],
        new_reasoning=log.text_of(REASONING) or None,
        new_outline=orjson.dumps(outline).decode(),
    )
    if any(part.get("type") != TEXT_PART for part in message.get("parts") or ()):
        index_updates.note_message(user_id=user_id, message_id=message["id"])


def erase_all(*, user_id: str, message: Mapping[str, Any], erased: Mapping[str, str]) -> None:
    """Leave nothing of a message but its place, in the session's transaction. Its conversation is locked."""
    files.release_files_of_messages(user_id=user_id, message_ids=[message["id"]])
    own = (Attachment.user_id == user_id, Attachment.message_id == message["id"])
    db.session.execute(sa.delete(Attachment).where(*own))
    its = (Message.user_id == user_id, Message.id == message["id"])
    db.session.execute(sa.update(Message).where(*its).values(attachment_count=0))
    _change(user_id, message, {"content": "", "erased": orjson.dumps(dict(erased)).decode()})
    _FORGET.all(
        user_id=user_id,
        parent_id=message["parent_id"],
        message_id=message["id"],
        new_reasoning=None,
        new_outline=None,
    )


def _change(user_id: str, message: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    this_message = {"user_id": user_id, "message_id": message["id"]}
    [(size_before,)] = _SIZE.all(**this_message)
    size_bytes = messages.size_of(fields=fields)
    values = {**dict.fromkeys(_CHANGED), **fields, "size_bytes": size_bytes}
    _ERASE.all(**this_message, **named_new(values))
    scope = {"user_id": user_id, "conversation_id": message["conversation_id"]}
    _SHRINK.all(**scope, bytes=size_before - size_bytes)
    index_writer.rewrite(**scope, message_id=message["id"], words=words_of(fields["content"]))


def _parts_left(message: Mapping[str, Any], text: str) -> str | None:
    """The parts of a reply that has files: these, and the texts if they are still there."""
    parts = message.get("parts") or []
    left = parts if text else [part for part in parts if part["type"] != TEXT_PART]
    return encoded(left) if left else None
