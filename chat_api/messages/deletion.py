"""Deletes a message with its descendants, or a whole conversation, in steps that are short on SQLite (`database.bulk`).

The first step hides a conversation: from then on it is gone for everybody, and whoever deletes it again goes on with
what is left. Of a branch the newest messages go first, so that none is ever without its parent, and the message that
it begins with goes last: as long as something is left, that can be deleted again.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from ..conversations import service as conversations
from ..conversations.models import Conversation
from ..database.bulk import delete_children, rows_at_once
from ..database.columns import Id
from ..database.dialect import is_postgres
from ..database.parameters import ROW_LIMIT, given
from ..database.session import db
from ..database.statements import Statement
from ..errors import NotFound
from ..files import service as files
from . import service
from .active_path import moved_path
from .conditions import IN_CONVERSATION
from .models import Message
from .title_words import title_follows

BATCH_ROWS = 1000  # at most
BATCH_BYTES = 64 * 1024  # on SQLite, where the index of words is deleted with its message: about 20 ms
_READ_AT_ONCE = 1000

Check = Callable[[Mapping[str, Any]], None]
"""Called with what is to be deleted, which is locked; raises where it must stay."""

_LATER = Statement(
    sa.select(Message.id, Message.parent_id, Message.position, Message.size_bytes)
    .where(*IN_CONVERSATION, Message.position > given("cursor", sa.BigInteger()))
    .order_by(Message.position)
    .limit(ROW_LIMIT)
)
_HIDDEN = Statement(
    sa.select(Conversation.id, Conversation.hidden_by)
    .where(Conversation.user_id == given("user_id"), Conversation.hidden_by.is_not(None))
    .order_by(Conversation.id)
)
_HIDDEN_BY = Statement(
    sa.select(Conversation.hidden_by).where(
        Conversation.user_id == given("user_id"), Conversation.id == given("conversation_id")
    )
)


# -- conversations -------------------------------------------------------------------------------------------


def _unchecked(_: Mapping[str, Any]) -> None:
    """Nothing keeps it."""


def delete_conversation(*, user_id: str, conversation_id: str, check: Check = _unchecked) -> Iterator[None]:
    """Delete a conversation and all that is in it, in steps, each to be committed. The first one raises NotFound."""
    own = {"user_id": user_id, "conversation_id": conversation_id}
    if (
        hidden_by(**own) == conversation_id
    ):  # it is gone already, but a killed process may have left some of it
        yield from remove_hidden(**own, by=conversation_id)
        raise NotFound("conversation")
    check(conversations.lock_conversation(**own))
    hide_conversation(**own)
    yield
    yield from remove_hidden(**own, by=conversation_id)


def hide_conversation(*, user_id: str, conversation_id: str) -> None:
    """Begin to delete a conversation, so that nobody sees it any more. `delete_conversation` does the rest."""
    own = (Conversation.user_id == user_id, Conversation.id == conversation_id)
    db.session.execute(sa.update(Conversation).where(*own).values(hidden_by=conversation_id))


def hide_all_conversations(*, user_id: str) -> Iterator[None]:
    """Begin to delete all conversations of a user, in steps, each to be committed."""
    visible = (Conversation.user_id == user_id, Conversation.hidden_by.is_(None))
    while ids := db.session.scalars(sa.select(Conversation.id).where(*visible).limit(rows_at_once())).all():
        hide = sa.update(Conversation).where(*visible, Conversation.id.in_(ids))
        db.session.execute(hide.values(hidden_by=Conversation.id))
        yield


def hidden_by(*, user_id: str, conversation_id: str) -> str | None:
    """What hides a conversation: its own id while it is being deleted, an import's id, None for nothing."""
    row = _HIDDEN_BY.first(user_id=user_id, conversation_id=conversation_id)
    return str(row[0]) if row and row[0] else None


def list_hidden(*, user_id: str) -> list[tuple[str, str]]:
    """The user's conversations that nobody sees, and what hides each."""
    return [(str(conversation_id), str(by)) for conversation_id, by in _HIDDEN.all(user_id=user_id)]


def remove_hidden(*, user_id: str, conversation_id: str, by: str) -> Iterator[None]:
    """Delete a hidden conversation, as long as this hides it; in steps, each to be committed."""
    if by != conversation_id:  # an import: if it is still running, it must notice before it stores more
        own = (Conversation.user_id == user_id, Conversation.id == conversation_id)
        take = sa.update(Conversation).where(*own, Conversation.hidden_by == by)
        if db.session.scalar(take.values(hidden_by=conversation_id).returning(Conversation.id)) is None:
            yield
            return
    while _delete_newest(user_id, conversation_id):
        yield
    yield


def _delete_newest(user_id: str, conversation_id: str) -> bool:
    """Delete the newest messages of a conversation whose deletion has begun, or what is added to them.

    Whether something may be left.
    """
    here = (
        Conversation.user_id == user_id,
        Conversation.id == conversation_id,
        Conversation.hidden_by == conversation_id,
    )
    if db.session.scalar(sa.select(Conversation.id).where(*here).with_for_update()) is None:
        return False
    messages = (Message.user_id == user_id, Message.conversation_id == conversation_id)
    limit = rows_at_once()
    columns = (Message.id, Message.parent_id, Message.position, Message.size_bytes, Message.attachment_count)
    newest = sa.select(*columns).where(*messages)
    rows = db.session.execute(newest.order_by(Message.position.desc()).limit(limit)).all()
    batch = rows[: _count_of_batch([row.size_bytes for row in rows], limit)]
    if not batch:
        db.session.execute(sa.delete(Conversation).where(*here))
        return False
    with_attachments = [row.id for row in batch if row.attachment_count]
    files.release_files_of_messages(user_id=user_id, message_ids=with_attachments)
    if not _delete_some_children(user_id, [row.id for row in batch]):
        # a range of an index: with a list of ids, Postgres may go through all that the owner has for each
        db.session.execute(sa.delete(Message).where(*messages, Message.position >= batch[-1].position))
    return True


def _delete_some_children(user_id: str, message_ids: list[str]) -> bool:
    """Delete what was added to messages, on SQLite as many rows as a step may; whether some may be left."""
    if is_postgres(db.engine):  # the cascade does it
        return False
    return delete_children(Message, user_id=user_id, ids=message_ids, limit=rows_at_once())


def _count_of_batch(sizes: list[int], limit: int) -> int:
    """How many of messages with these sizes are deleted together: at least one, where there is one."""
    if is_postgres(db.engine):
        return min(len(sizes), limit)
    count = size_bytes = 0
    for size in sizes[:limit]:
        size_bytes += size
        if count and size_bytes > BATCH_BYTES:
            break
        count += 1
    return count


# -- messages ------------------------------------------------------------------------------------------------


def delete_message(*, user_id: str, message_id: str, check: Check = _unchecked) -> Iterator[None]:
    """Delete a message and its descendants, in steps, each to be committed. The first one raises NotFound.

    An active path through it ends with the newest message of it that is left, and in the end at its parent.
    """
    branch = _Descendants(user_id, service.get_message(user_id=user_id, message_id=message_id))
    is_first = True
    while branch.found:
        try:
            message = _lock_message(user_id, message_id)
        except NotFound:
            if is_first:
                raise
            return  # somebody else has deleted it, too
        if is_first:
            check(message)
        with title_follows(user_id=user_id, conversation_id=str(message["conversation_id"])):
            branch.find_new()
            branch.delete_newest()
        is_first = False
        yield


def _lock_message(user_id: str, message_id: str) -> dict[str, Any]:
    """The message, in whose conversation nobody else writes until the transaction ends. Raises NotFound."""
    own = (Message.user_id == user_id, Message.id == message_id)
    is_its = sa.and_(Conversation.user_id == Message.user_id, Conversation.id == Message.conversation_id)
    lock = sa.select(Conversation.id).join(Message, is_its).where(*own).with_for_update(of=Conversation)
    db.session.execute(lock)
    return service.get_message(user_id=user_id, message_id=message_id)


class _Descendants:
    """A message and its descendants. Those have higher positions, so going through these once, in their order, a
    message is a descendant if its parent is."""

    def __init__(self, user_id: str, message: Mapping[str, Any]) -> None:
        """Finds them. No lock is needed for that, as `find_new` finds those that come later."""
        self._scope = {"user_id": user_id, "conversation_id": message["conversation_id"]}
        self.found = [(message["id"], len(message["content"]))]  # with sizes, oldest first
        self._ids = {message["id"]}
        self._seen: int = message["position"]
        self.find_new()

    def find_new(self) -> None:
        """Look at the messages that were not there before."""
        while rows := _LATER.all(**self._scope, cursor=self._seen, row_limit=_READ_AT_ONCE):
            for id_, parent_id, position, size_bytes in rows:
                if parent_id is not None and str(parent_id) in self._ids:
                    self._ids.add(str(id_))
                    self.found.append((str(id_), size_bytes))
                self._seen = position

    def delete_newest(self) -> None:
        """Delete the newest ones, or what is added to them. The conversation is locked."""
        limit = min(rows_at_once(), BATCH_ROWS)
        newest = self.found[-limit:]
        count = _count_of_batch([size for _, size in reversed(newest)], limit)
        ids = [message_id for message_id, _ in newest[-count:]]
        files.release_files_of_messages(user_id=self._scope["user_id"], message_ids=ids)
        if _delete_some_children(self._scope["user_id"], ids):
            return
        del self.found[-count:]
        self._delete(ids)

    def _delete(self, ids: list[str]) -> None:
        own = Message.user_id == self._scope["user_id"]
        delete = sa.delete(Message).where(own, Message.id.in_(ids))
        gone = db.session.execute(
            delete.returning(Message.position, Message.parent_id, Message.on_path, Message.size_bytes)
        ).all()
        changes: dict[str, Any] = {
            "message_count": Conversation.message_count - len(gone),
            "content_bytes": Conversation.content_bytes - sum(row.size_bytes for row in gone),
        }
        left_path = [row for row in gone if row.on_path]
        if left_path:  # of a path the newest messages, as these have the highest positions
            leaf_id = sa.literal(min(left_path, key=lambda row: row.position).parent_id, Id())
            changes |= moved_path(leaf_id, -len(left_path))
        here = (
            Conversation.user_id == self._scope["user_id"],
            Conversation.id == self._scope["conversation_id"],
        )
        db.session.execute(sa.update(Conversation).where(*here).values(changes))
