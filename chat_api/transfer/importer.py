"""Storing what an import reads: each conversation whole, or nothing of it."""

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

from sqlalchemy.exc import IntegrityError

from ..conversations import service as conversations
from ..database.bulk import PAUSED
from ..database.session import db
from ..errors import QuotaExceeded
from ..messages import deletion
from . import import_queries
from .conversation_group import ConversationGroup, Held, keys_of
from .conversation_importer import CLASHES, AlreadyHere, ConversationImporter, Refused
from .conversation_updater import ConversationUpdater
from .file_importer import FileImporter
from .group_writer import GroupWriter, overlaps, try_store
from .import_report import ImportReport
from .limits import MAX_PROVIDERS
from .records import ATTACHMENT, CONFIG, CONVERSATION, PROVIDER, Fault, Pause, Record, Records

_END = object()


class Importer:
    """Stores the records of one file as a user's, each conversation in a transaction of its own, or in several, or
    several small ones in one."""

    def __init__(
        self,
        *,
        user_id: str,
        report: ImportReport,
        files: FileImporter,
        provider_ids: dict[str, str] | None = None,
        one_by_one: bool = False,
    ) -> None:
        self._user_id, self._report, self._files = user_id, report, files
        self._conversation: ConversationImporter | None = None
        # of the conversation, while it may be stored with others; then nothing was looked up for it
        self._records: list[Record] | None = None
        self._group = None if one_by_one else ConversationGroup(user_id=user_id)
        self._writer = GroupWriter()
        self._refused: ConversationImporter | None = None
        self._skips = False  # the rest of a conversation that is not stored
        self._number = 0  # of the current record
        self._provider_ids: dict[str, str] = (
            {} if provider_ids is None else provider_ids
        )  # in the file -> here

    def restore(self, records: Records) -> Generator[Any, None, None]:
        """Store them all. Yields when a transaction is complete, for the caller to commit it before going on, and
        PAUSED when there is nothing to store yet. Groups may be stored and committed by other threads meanwhile; these
        have ended when this has, and when it is closed.

        What is refused is rolled back, and what is stored of its conversation already, which is hidden, is deleted.
        Raises NotFound where the user is gone, and whatever the database does; what is committed stays.
        """
        try:
            for record in records:
                if not isinstance(record, Record) or not self._take(record):
                    yield from self._restore(record)
            yield from self._finish_conversation()
            yield from self._store_group()
        finally:
            self._writer.close()
        self._files.discard()

    def _restore(self, record: Record | Fault | Pause) -> Iterator[Any]:
        if isinstance(record, Pause):  # between conversations, perhaps for long
            yield from self._finish_conversation()
            yield from self._store_group()
            yield PAUSED
            return
        if record.starts_conversation:
            yield from self._finish_conversation()
        if isinstance(record, Fault):
            yield from self._store_group()  # whose errors come before this one
            if self._report_fault(record):
                yield
            yield from self._remove_refused()
        else:
            yield from self._store(record)

    def _remove_left(self, conversation_id: str) -> Iterator[None]:
        """Remove what a deletion or an import has left of a conversation, so that it can be stored.

        If that import is still running, it is refused with its next batch.
        """
        own = {"user_id": self._user_id, "conversation_id": conversation_id}
        by = deletion.hidden_by(**own)
        if by is not None:
            yield from deletion.remove_hidden(**own, by=by)

    def _remove_refused(self) -> Iterator[None]:
        """Remove what is stored of a conversation that was refused."""
        refused, self._refused = self._refused, None
        if refused is None:
            return
        refused.discard_contents()
        if refused.is_hidden:
            own = {"user_id": self._user_id, "conversation_id": refused.id}
            yield from deletion.remove_hidden(**own, by=refused.import_id)
        elif self._records is not None:
            self._records = None
            yield from self._remove_left(refused.id)

    # -- several at once -----------------------------------------------------------------------------------------

    def _take(self, record: Record) -> bool:
        """Keep a record of a conversation that is to be stored with others; whether that was possible.

        One that is refused is none, so that `_store` says so.
        """
        conversation = self._conversation
        if self._records is None or conversation is None or record.starts_conversation:
            return False
        if conversation.is_full or _has_content(record):
            return False
        try:
            conversation.add(record)
        except Refused:
            return False
        self._records.append(record)
        return True

    def _settle(self) -> Iterator[Any]:
        """Store the conversation by itself, and what comes before it."""
        yield from self._store_group()
        records, self._records = self._records, None
        if records is not None:
            yield from self._begin_alone(records[0])
            for record in records[1:]:
                yield from self._add(record)

    def _hold(self, conversation: ConversationImporter, records: list[Record]) -> Iterator[Any]:
        """Keep a conversation that is complete, for the next group."""
        self._conversation = self._records = None
        self._skips = False
        if self._group is not None:
            self._group.add(Held(conversation, records))
            if self._group.is_full:
                yield from self._begin_group()

    def _store_group(self) -> Iterator[Any]:
        """Store the conversations that are kept, and wait for all that are being stored."""
        yield from self._begin_group(is_last=True)
        yield from self._finish_groups()

    def _begin_group(self, *, is_last: bool = False) -> Iterator[Any]:
        """Store the conversations that are kept: those that are new together, if nothing is wrong with any."""
        group = self._group.take_all() if self._group is not None else []
        if self._group is None or not group:
            return
        if self._writer.uses_any(keys_of(group)):
            yield from self._finish_groups()
        ids = [held.conversation.id for held in group]
        here = import_queries.which_are_here(user_id=self._user_id, conversation_ids=ids)
        new = [held for held in group if held.conversation.id not in here]
        alone = [held for held in group if held.conversation.id in here]
        try:
            store = self._group.prepare(new) if new else None
        except QuotaExceeded:
            yield from self._finish_groups()
            yield from self._store_apart(group)
            return
        if store is not None and overlaps() and not (is_last and not len(self._writer)):
            while self._writer.is_full:
                yield from self._finish_group()
            self._writer.begin(new, store)
        elif store is not None:
            yield from self._report_group(new, is_stored=try_store(store))
        if alone:
            yield from self._finish_groups()
            yield from self._restore_apart(alone)

    def _finish_groups(self) -> Iterator[Any]:
        while len(self._writer):
            yield from self._finish_group()

    def _finish_group(self) -> Iterator[Any]:
        group, is_stored = self._writer.finish_first()
        yield from self._report_group(group, is_stored=is_stored)

    def _report_group(self, group: list[Held], *, is_stored: bool) -> Iterator[Any]:
        """Report what is stored, once it is committed; what was refused is stored one after the other."""
        if not is_stored:
            yield from self._store_apart(group)
            return
        yield
        for held in group:
            self._report_stored(held.conversation)

    def _store_apart(self, group: list[Held]) -> Iterator[Any]:
        """Store conversations one after the other that were refused as a group."""
        if self._group is not None:
            self._group.undo()
        yield from self._restore_apart(group)

    def _restore_apart(self, group: list[Held]) -> Iterator[Any]:
        one_by_one = Importer(
            user_id=self._user_id,
            report=self._report,
            files=self._files,
            provider_ids=self._provider_ids,
            one_by_one=True,
        )
        for held in group:
            yield from one_by_one.restore(iter(held.records))

    # -- one by one ----------------------------------------------------------------------------------------------

    def _store(self, record: Record) -> Iterator[Any]:
        """Store a record, or keep it for its batch."""
        self._number = record.number
        if record.kind == CONVERSATION:
            yield from self._begin(record)
        elif record.kind == PROVIDER:
            if self._restore_provider(record):
                yield
        elif record.kind == CONFIG:
            self._report.keys_left_out += 1
        elif self._conversation is not None:
            yield from self._settle()
            yield from self._add(record)
        elif not self._skips:
            self._skips = True
            yield from self._store_group()
            self._report.add_error(record.number, f"This {record.kind} belongs to no conversation.")

    def _begin(self, record: Record) -> Iterator[Any]:
        conversation_id = record.fields["id"]
        if self._group is None:
            yield from self._begin_alone(record)
            return
        if conversation_id in self._group:
            yield from self._store_group()
        self._conversation = ConversationImporter(
            user_id=self._user_id, record=record, provider_ids=self._provider_ids, files=self._files
        )
        self._records = [record]

    def _begin_alone(self, record: Record) -> Iterator[None]:
        own = {"user_id": self._user_id, "conversation_id": record.fields["id"]}
        yield from self._remove_left(record.fields["id"])
        here = import_queries.find_visible(**own) if conversations.has_conversation(**own) else None
        make = ConversationImporter if here is None else partial(ConversationUpdater, here=here)
        self._conversation = make(
            user_id=self._user_id, record=record, provider_ids=self._provider_ids, files=self._files
        )

    def _add(self, record: Record) -> Iterator[Any]:
        """Add a record to the conversation, unless that was refused."""
        conversation = self._conversation
        if conversation is None:
            return
        self._number = record.number
        if record.kind == ATTACHMENT and not (yield from conversation.keep_content(record)):
            return
        if self._store_part(partial(conversation.add, record)):
            yield
        yield from self._remove_refused()

    def _finish_conversation(self) -> Iterator[Any]:
        """End the conversation that is being stored, if there is one."""
        conversation = self._conversation
        if conversation is not None and self._records is not None:
            if conversation.is_complete:
                yield from self._hold(conversation, self._records)
                return
            yield from self._settle()  # which says what is wrong, or finds what it answers
            conversation = self._conversation
        if conversation is not None:
            steps = conversation.close()
            while self._store_part(lambda: next(steps, _END) is not _END):
                yield
                if self._conversation is not conversation:
                    break
            if self._conversation is conversation:
                self._report_stored(conversation)
        yield from self._remove_refused()
        self._conversation, self._skips = None, False

    def _report_stored(self, conversation: ConversationImporter) -> None:
        self._report.imported.update(conversation.counts)
        self._report.parts_omitted += conversation.parts_omitted
        if isinstance(conversation, ConversationUpdater):
            self._report.add_update(conversation)
        else:
            self._report.imported[CONVERSATION] += 1

    def _store_part(self, store: Callable[[], bool]) -> bool:
        """Store a part of the conversation; whether a transaction has ended.

        One that is refused ends with that, and nothing of it stays.
        """
        try:
            if store():
                return True
        except AlreadyHere:
            db.session.rollback()
            self._skip()
        except Refused as error:
            self._refuse(error)
        except IntegrityError:
            self._refuse(Refused(self._number, CLASHES))
        return self._conversation is None

    def _report_fault(self, fault: Fault) -> bool:
        """Report what can't be read, and undo the conversation that it is part of."""
        self._number = fault.number
        if self._conversation is not None:
            self._refuse(Refused(fault.number, fault.detail))
            return True
        if self._skips and fault.kind is not None:
            return False  # of a conversation that has failed, or is not stored again
        self._report.add_error(fault.number, fault.detail, fault.conversation_id)
        if fault.kind == CONVERSATION:
            self._report.failed[CONVERSATION] += 1
        self._skips = fault.kind is None or not fault.starts_conversation or fault.kind == CONVERSATION
        return False

    def _restore_provider(self, record: Record) -> bool:
        if record.fields["id"] in self._provider_ids:
            self._report.add_error(record.number, "id: It is used already.")
            return False
        if len(self._provider_ids) >= MAX_PROVIDERS:
            self._report.add_error(record.number, f"There are more than {MAX_PROVIDERS} providers.")
            return False
        try:
            provider_id, is_new = import_queries.restore_provider(
                user_id=self._user_id, fields=record.fields, others=self._provider_ids.values()
            )
        except QuotaExceeded as exceeded:
            self._report.add_error(record.number, exceeded.detail)
            return False
        self._provider_ids[record.fields["id"]] = provider_id
        (self._report.imported if is_new else self._report.unchanged)[PROVIDER] += 1
        return True

    def _skip(self) -> None:
        """Leave out a conversation that another request has stored."""
        self._conversation, self._skips = None, True
        self._report.unchanged[CONVERSATION] += 1

    def _refuse(self, refused: Refused) -> None:
        """Undo the conversation that is being stored, and skip what is left of it."""
        conversation, self._conversation, self._skips = self._conversation, None, True
        self._refused = conversation
        if conversation is None:
            raise RuntimeError("No conversation is being stored.")
        db.session.rollback()
        self._report.add_error(refused.number, refused.detail, conversation.id)
        self._report.failed[CONVERSATION] += 1


def _has_content(record: Record) -> bool:
    """Whether it is an attachment with content, in the file or here."""
    return record.kind == ATTACHMENT and ("sha256" in record.fields or "member" in record.fields)
