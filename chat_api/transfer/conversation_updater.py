"""One conversation that is here already and is brought up to date: what the file has and this service hasn't is added.

Nothing that is here is changed or removed but title, flags, active leaf and time, and these only where the file is
newer and nobody has changed them here. So importing any two exports of a conversation that grows, in any order, gives
the union.
Each batch is committed and seen at once: a part of the new messages is a whole conversation, too.
"""

from collections.abc import Generator, Iterator
from typing import Any

from ..attachments import service as attachments
from ..attachments.models import Attachment
from ..completions import service as completions
from ..completions.models import Completion
from ..conversations.models import Conversation
from ..database.bulk import insert_rows
from ..database.session import db
from ..errors import NotFound
from ..messages import active_path
from ..messages import service as messages
from ..messages.long_moves import move_in_steps
from ..search_index.writer import Terms
from . import import_queries
from .conversation_importer import CLASHES, ConversationImporter, Refused, label_of
from .details import DETAILS, Known, as_imported, is_newer, merge, name_of
from .file_importer import FileImporter
from .import_queries import ConversationHere
from .records import ATTACHMENT, COMPLETION, FILE, MESSAGE, Record


class ConversationUpdater(ConversationImporter):
    """Takes the records of a conversation in their order, as ConversationImporter does, and stores what is new."""

    def __init__(
        self,
        *,
        user_id: str,
        record: Record,
        provider_ids: dict[str, str],
        files: FileImporter,
        here: ConversationHere,
    ) -> None:
        super().__init__(user_id=user_id, record=record, provider_ids=provider_ids, files=files)
        self._here = here
        self._has_leaf = here.active_leaf_id is None and here.message_count == 0  # the one that is here
        self.changed: list[str] = []
        self.kept: list[str] = []  # of the details those that differ and are newer here
        self.messages_kept = 0  # that say something else here

    @property
    def has_changed(self) -> bool:
        """Whether something was added or changed."""
        return bool(self.changed) or any(self.counts.values())

    def keep_content(self, record: Record) -> Generator[Any, None, bool]:
        """See ConversationImporter. Most have their content already."""
        if import_queries.has_content(user_id=self._user_id, attachment_id=record.fields["id"]):
            self._content = None
            return True
        return (yield from super().keep_content(record))

    def close(self) -> Iterator[None]:
        """Store what is left, then what is known of the conversation as a whole; in steps, each to be committed."""
        self._store_batch()
        yield
        yield from self._move_leaf()
        self._update_details()
        yield

    def _move_leaf(self) -> Iterator[None]:
        """Let the active path end where it does in the file, unless somebody has gone on here."""
        own = {"user_id": self._user_id, "conversation_id": self.id}
        leaf_id = self._leaf()
        db.session.rollback()
        if not self._is_newer or not self._has_leaf or leaf_id in (None, self._here.active_leaf_id):
            return
        if self._lock().active_leaf_id != self._here.active_leaf_id:
            db.session.rollback()
            return
        self.changed.append("active_leaf_id")
        try:
            active_path.set_active_leaf(**own, message_id=leaf_id)
            yield
        except active_path.LongMove:
            db.session.rollback()
            try:
                yield from move_in_steps(**own, message_id=leaf_id)
            except NotFound as error:  # somebody has deleted it in between
                raise Refused(self._first_number, CLASHES) from error

    def _update_details(self) -> None:
        here = self._lock()
        known = Known(here.imported, here.updated_at)
        changes, kept = merge(self._fields, {name: getattr(here, name) for name in DETAILS}, known)
        self.kept += map(name_of, kept)
        if not is_newer(self._fields, known):
            return
        if self._fields["updated_at"] > here.updated_at:
            changes["updated_at"] = self._fields["updated_at"]
        self.changed += map(name_of, changes)
        imported = as_imported(self._fields, here.imported)
        import_queries.update_conversation(
            user_id=self._user_id, conversation_id=self.id, **changes, imported=imported
        )

    @property
    def _is_newer(self) -> bool:
        return self._fields["updated_at"] > self._here.updated_at

    def _count(self, record: Record) -> None:
        """Only what is new counts, and that is known with the batch."""
        if record.kind == MESSAGE:
            self._omitted[record.fields["id"]] = record.omitted
            self._has_leaf = self._has_leaf or record.fields["id"] == self._here.active_leaf_id

    def _terms_of(self, record: Record) -> None:
        return None  # most messages are here already

    def _begin_batch(self) -> None:
        super()._begin_batch()
        self._omitted: dict[str, int] = {}

    def _store_hidden(self) -> None:
        """Store the batch of a conversation that everybody sees."""
        self._store_batch()

    def _store_batch(self) -> None:
        new_messages = self._new_messages()
        new_attachments = self._new(ATTACHMENT, Attachment, self._attachments, "message_id")
        new_completions = self._new(COMPLETION, Completion, self._completions, "conversation_id")
        self._require_no_drafts()
        self._require_parents()
        has_contents = bool(self._contents)  # also for attachments that are here without
        db.session.rollback()  # on SQLite the lock on all writers, which is not needed for words
        if new_messages or new_attachments or new_completions or has_contents:
            terms = [self._make_terms(message["id"], message["content"]) for message in new_messages]
            import_queries.discard_plans()
            self._add_rows(new_messages, terms, new_attachments, new_completions)
        self._begin_batch()

    def _add_rows(
        self,
        new_messages: list[dict[str, Any]],
        terms: list[Terms],
        new_attachments: list[dict[str, Any]],
        new_completions: list[dict[str, Any]],
    ) -> None:
        self._hold_owner()
        here = self._lock()
        batch_bytes: int = sum(message["size_bytes"] for message in new_messages)
        self._require_room(messages=len(new_messages), message_bytes=batch_bytes)
        with self._refused_beyond_quota():
            attachments.QUOTAS.require_room(len(new_attachments), user_id=self._user_id)
            completions.QUOTAS.require_room(len(new_completions), user_id=self._user_id)
        for position, message in enumerate(new_messages, here.last_position + 1):
            message.update(position=position, on_path=False, attachment_count=0)
        if new_messages:
            messages.insert_messages(rows=new_messages, terms=terms)
            import_queries.update_conversation(
                user_id=self._user_id,
                conversation_id=self.id,
                message_count=Conversation.message_count + len(new_messages),
                last_position=here.last_position + len(new_messages),
                content_bytes=Conversation.content_bytes + batch_bytes,
            )
        self._add_attachments(new_attachments)
        self._add_contents({row["id"] for row in new_attachments})
        if new_completions:
            insert_rows(Completion, new_completions)
        self.counts[MESSAGE] += len(new_messages)
        self.counts[ATTACHMENT] += len(new_attachments)
        self.counts[COMPLETION] += len(new_completions)
        self.parts_omitted += sum(self._omitted[message["id"]] for message in new_messages)

    def _add_attachments(self, rows: list[dict[str, Any]]) -> None:
        """Add them after those that their messages have."""
        if not rows:
            return
        message_ids = {row["message_id"] for row in rows}
        counts = import_queries.attachment_counts(user_id=self._user_id, message_ids=message_ids)
        for row in rows:
            counts[row["message_id"]] += 1
            row["position"] = counts[row["message_id"]]
        insert_rows(Attachment, rows)
        for message_id, count in counts.items():
            import_queries.count_attachments(user_id=self._user_id, message_id=message_id, count=count)

    def _add_contents(self, new_ids: set[str]) -> None:
        """Add the contents of the new attachments, and of those that are here without."""
        for attachment_id, content in self._contents.items():
            if attachment_id not in new_ids:
                label = label_of(attachment_id, content)
                import_queries.relabel(user_id=self._user_id, attachment_id=attachment_id, **label)
        self.counts[FILE] += len(self._contents)
        self._store_contents({row["id"]: row["message_id"] for row in self._attachments})

    def _lock(self) -> ConversationHere:
        """The conversation as it is now, which nobody else changes until the transaction ends."""
        own = {"user_id": self._user_id, "conversation_id": self.id}
        here = import_queries.lock_visible(**own)
        if here is None:
            raise Refused(self._first_number, CLASHES)
        return here

    def _new_messages(self) -> list[dict[str, Any]]:
        """Those of the batch that are not here. Those that are, and say something else, are counted."""
        if not self._messages:
            return []
        rows = {row["id"]: row for row in self._messages}
        here = import_queries.find_messages(user_id=self._user_id, ids=rows)
        same_size = []
        for id_, found in here.items():
            row = rows[id_]
            if found.conversation_id != self.id:
                raise Refused(self._numbers[MESSAGE][id_], "id: It is used already.")
            content_bytes = len(row["content"].encode())  # which is the size in older releases
            if found.size_bytes in (row["size_bytes"], content_bytes):
                same_size.append(id_)
        contents = import_queries.contents_of(user_id=self._user_id, ids=same_size)
        for id_, found in here.items():
            said = (rows[id_]["parent_id"], rows[id_]["role"], rows[id_]["content"])
            self.messages_kept += said != (found.parent_id, found.role, contents.get(id_))
        return [row for row in self._messages if row["id"] not in here]

    def _new(self, kind: str, model: Any, rows: list[dict[str, Any]], scope: str) -> list[dict[str, Any]]:
        """Those attachments or completions of the batch that are not here."""
        if not rows:
            return []
        found = import_queries.scopes_of(model, scope, user_id=self._user_id, ids=[row["id"] for row in rows])
        for row in rows:
            if found.get(row["id"], row[scope]) != row[scope]:
                raise Refused(self._numbers[kind][row["id"]], "id: It is used already.")
        return [row for row in rows if row["id"] not in found]
