"""Deleting a reply for the clients of dialects that delete responses, not messages."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa

from ..database.parameters import CONVERSATION_ID, MESSAGE_ID, USER_ID, given, new
from ..database.session import db
from ..database.statements import Statement
from ..errors import NotFound
from ..messages import deletion
from ..messages.conditions import IN_CONVERSATION
from ..messages.models import Message
from .models import Completion
from .records import THIS_COMPLETION, StoredCompletion

DELETED = "deleted"  # in what was asked
KEPT = ("dialect", "model")  # of what was asked: the rest, such as instructions, is the client's

_MARK = Statement(
    sa.update(Completion)
    .where(*THIS_COMPLETION)
    .values(asked=new(Completion.asked), is_listed=sa.null(), client_metadata=sa.null())
)
_ANSWER = Statement(
    sa.select(sa.literal_column("1"))
    .where(
        *IN_CONVERSATION,
        Message.position > given("position", sa.BigInteger()),
        Message.parent_id == MESSAGE_ID,
    )
    .limit(1)
)
_REPLY = Statement(
    sa.select(sa.literal_column("1"))
    .where(
        Completion.user_id == USER_ID,
        Completion.parent_id == MESSAGE_ID,
        Completion.conversation_id == CONVERSATION_ID,
    )
    .limit(1)
)


class _IsAnswered(Exception):
    """A message is answered, so it stays."""


def is_deleted(row: Mapping[str, Any]) -> bool:
    """Whether a completion with this row was deleted as a response."""
    return DELETED in (row["asked"] or "") and bool(orjson.loads(row["asked"]).get(DELETED))


def delete_reply(*, stored: StoredCompletion) -> Iterator[None]:
    """Delete a completion that has ended for those clients, and its message where nothing answers that; in steps,
    each to be committed.

    The completion stays for the message, which is in the conversation, and for what it has used.
    """
    user_id, completion_id = stored.row["user_id"], stored.row["id"]
    asked = orjson.loads(stored.row["asked"] or "{}")
    kept = {name: asked[name] for name in KEPT if name in asked}
    db.session.connection()  # begins the transaction
    deleted = orjson.dumps({**kept, DELETED: True}).decode()
    _MARK.all(user_id=user_id, completion_id=completion_id, new_asked=deleted)
    if stored.message is None:
        yield
        return
    message_id = str(stored.message["id"])
    try:
        yield from deletion.delete_message(
            user_id=user_id, message_id=message_id, check=partial(_require_no_answer, user_id)
        )
    except (_IsAnswered, NotFound):
        yield


def _require_no_answer(user_id: str, message: Mapping[str, Any]) -> None:
    its = {"user_id": user_id, "conversation_id": message["conversation_id"], "message_id": message["id"]}
    if _ANSWER.first(**its, position=message["position"]) or _REPLY.first(**its):
        raise _IsAnswered
