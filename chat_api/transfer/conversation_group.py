"""Small conversations that are new, stored together in one transaction.

Their rows are complete before it begins: nothing is looked up, and what clashes with anything that is stored already is
refused by the database's keys. Then nothing of the group is stored, and whoever has it stores one conversation after
the other, so that each is stored or refused for itself.
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

from ..attachments import service as attachments
from ..attachments.models import Attachment
from ..completions import service as completions
from ..completions.models import Completion
from ..conversations import service as conversations
from ..conversations.models import Conversation
from ..database.bulk import insert_rows
from ..files.models import AttachmentDraft
from ..messages import service as messages
from . import import_queries
from .conversation_importer import ConversationImporter, Whole, is_full_batch
from .records import Record


class Clash(Exception):
    """An attachment has the id of an upload."""


class Held(NamedTuple):
    """A conversation of which all is read and nothing is stored, and its records, to begin again with."""

    conversation: ConversationImporter
    records: list[Record]


def keys_of(group: Collection[Held]) -> set[str]:
    """All that must not be in the database twice: the ids of records, and what clients call conversations."""
    keys = {record.fields["id"] for held in group for record in held.records}
    return keys | {
        f"external {name}" for held in group if (name := held.records[0].fields.get("external_id"))
    }


class ConversationGroup:
    """Conversations that wait to be stored together."""

    def __init__(self, *, user_id: str) -> None:
        self._user_id = user_id
        self._held: dict[str, Held] = {}
        self._rows = self._size_bytes = 0

    def __contains__(self, conversation_id: str) -> bool:
        return conversation_id in self._held

    def add(self, held: Held) -> None:
        """Keep a conversation."""
        self._held[held.conversation.id] = held
        self._rows += len(held.records)
        self._size_bytes += sum(record.size_bytes for record in held.records)

    @property
    def is_full(self) -> bool:
        """Whether it is to be stored before another one is added."""
        return is_full_batch(self._rows, self._size_bytes)

    def take_all(self) -> list[Held]:
        """Its conversations, which it forgets."""
        held = [*self._held.values()]
        self._held.clear()
        self._rows = self._size_bytes = 0
        return held

    def prepare(self, group: Collection[Held]) -> Callable[[], None]:
        """Complete the rows of new conversations, and count them; what this returns stores them, in the transaction of
        its caller's session, which may be another thread's.

        Raises QuotaExceeded. What is returned raises IntegrityError where something of them is there already, or their
        owner is gone; and Clash.
        """
        whole = [held.conversation.whole() for held in group]
        message_rows = [row for each in whole for row in each.messages]
        terms = [its for each in whole for its in each.terms]
        insert_messages = messages.prepare_messages(rows=message_rows, terms=terms) if message_rows else None
        self._require_room(whole)
        return partial(self._insert, whole, insert_messages)

    def _insert(self, whole: list[Whole], insert_messages: Callable[[], None] | None) -> None:
        attachment_rows = [row for each in whole for row in each.attachments]
        completion_rows = [row for each in whole for row in each.completions]
        # from here on SQLite keeps all other writers waiting
        import_queries.discard_plans()
        insert_rows(Conversation, [each.conversation for each in whole])
        if insert_messages is not None:
            insert_messages()
        if attachment_rows:
            self._require_no_drafts([row["id"] for row in attachment_rows])
            insert_rows(Attachment, attachment_rows)
        if completion_rows:
            insert_rows(Completion, completion_rows)

    def _require_no_drafts(self, attachment_ids: list[str]) -> None:
        own = AttachmentDraft.user_id == self._user_id
        if import_queries.used_ids(AttachmentDraft, own, ids=attachment_ids):
            raise Clash

    def _require_room(self, whole: list[Whole]) -> None:
        message_count = sum(len(each.messages) for each in whole)
        message_bytes = sum(each.conversation["content_bytes"] for each in whole)
        conversations.QUOTAS.require_room(len(whole), message_count, message_bytes, user_id=self._user_id)
        attachments.QUOTAS.require_room(sum(len(each.attachments) for each in whole), user_id=self._user_id)
        completions.QUOTAS.require_room(sum(len(each.completions) for each in whole), user_id=self._user_id)

    def undo(self) -> None:
        """After a rollback: what was counted is not stored."""
        for quotas in (conversations.QUOTAS, attachments.QUOTAS, completions.QUOTAS):
            quotas.forget(user_id=self._user_id)
