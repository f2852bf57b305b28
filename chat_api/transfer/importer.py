"""Storing what an import reads: each conversation whole, or nothing of it."""

from collections.abc import Callable, Iterator
from functools import partial

from sqlalchemy.exc import IntegrityError

from ..conversations import service as conversations
from ..database.session import db
from . import import_queries
from .conversation_importer import AlreadyHere, ConversationImporter, Refused
from .import_report import ImportReport
from .limits import MAX_PROVIDERS
from .records import CONFIG, CONVERSATION, PROVIDER, Fault, Record, Records

CLASHES = "It clashes with something that was stored at the same time; import the file again."


class Importer:
    """Stores the records of one file as a user's, each conversation in a transaction of its own."""

    def __init__(self, *, user_id: str, report: ImportReport) -> None:
        self._user_id, self._report = user_id, report
        self._conversation: ConversationImporter | None = None
        self._skips = False  # the rest of a conversation that is not stored
        self._place = 0  # of the record at hand
        self._provider_ids: dict[str, str] = {}  # in the file -> here

    def restore(self, records: Records) -> Iterator[None]:
        """Store them all. Yields whenever something is complete, to be committed before it goes on.

        What is refused is rolled back, which undoes nothing else, as all in front of it is committed. Raises NotFound
        where the user is gone, and whatever the database does; what is committed stays.
        """
        for record in records:
            if record.begins and self._close():
                yield
            is_complete = self._fail(record) if isinstance(record, Fault) else self._take(record)
            if is_complete:
                yield
        if self._close():
            yield

    def _take(self, record: Record) -> bool:
        """Store a record, or keep it for its batch; whether something is complete with it."""
        self._place = record.place
        if record.kind == CONVERSATION:
            self._begin(record)
        elif record.kind == PROVIDER:
            return self._restore_provider(record)
        elif record.kind == CONFIG:
            self._report.keys_left_out += 1
        elif self._conversation is not None:
            return self._attempt(partial(self._conversation.add, record))
        elif not self._skips:
            self._skips = True
            self._report.add_error(record.place, f"This {record.kind} belongs to no conversation.")
        return False

    def _begin(self, record: Record) -> None:
        if conversations.has_conversation(user_id=self._user_id, conversation_id=record.fields["id"]):
            self._skip()
        else:
            self._conversation = ConversationImporter(
                user_id=self._user_id, record=record, provider_ids=self._provider_ids
            )

    def _skip(self) -> None:
        """Leave a conversation out that is here already."""
        self._conversation, self._skips = None, True
        self._report.unchanged[CONVERSATION] += 1

    def _close(self) -> bool:
        """End the conversation that is being stored, if there is one; whether there was."""
        conversation = self._conversation
        if conversation is not None:
            self._attempt(conversation.close)
            if self._conversation is conversation:
                self._report.imported.update({CONVERSATION: 1, **conversation.counts})
        self._conversation, self._skips = None, False
        return conversation is not None

    def _attempt(self, store: Callable[[], None]) -> bool:
        """Do a part of storing the conversation; whether it ended with that, with nothing of it stored."""
        try:
            store()
        except AlreadyHere:
            db.session.rollback()
            self._skip()
        except Refused as error:
            self._refuse(error)
        except IntegrityError:
            self._refuse(Refused(self._place, CLASHES))
        return self._conversation is None

    def _fail(self, fault: Fault) -> bool:
        """Report what can't be read, and undo the conversation that it is part of."""
        self._place = fault.place
        if self._conversation is not None:
            self._refuse(Refused(fault.place, fault.detail))
            return True
        if self._skips and fault.kind is not None:
            return False  # of a conversation that has failed, or is not stored again
        self._report.add_error(fault.place, fault.detail, fault.conversation_id)
        if fault.kind == CONVERSATION:
            self._report.failed[CONVERSATION] += 1
        self._skips = fault.kind is None or not fault.begins or fault.kind == CONVERSATION
        return False

    def _refuse(self, refused: Refused) -> None:
        """Undo the conversation that is being stored, and skip what is left of it."""
        conversation, self._conversation, self._skips = self._conversation, None, True
        if conversation is None:
            raise RuntimeError("No conversation is being stored.")
        db.session.rollback()
        self._report.add_error(refused.place, refused.detail, conversation.id)
        self._report.failed[CONVERSATION] += 1

    def _restore_provider(self, record: Record) -> bool:
        if record.fields["id"] in self._provider_ids:
            self._report.add_error(record.place, "id: It is used already.")
            return False
        if len(self._provider_ids) >= MAX_PROVIDERS:
            self._report.add_error(record.place, f"There are more than {MAX_PROVIDERS} providers.")
            return False
        provider_id, is_new = import_queries.restore_provider(
            user_id=self._user_id, fields=record.fields, others=self._provider_ids.values()
        )
        self._provider_ids[record.fields["id"]] = provider_id
        (self._report.imported if is_new else self._report.unchanged)[PROVIDER] += 1
        return True
