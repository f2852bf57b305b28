"""One conversation that is being stored, in batches, each a transaction of the caller's.

One that takes more than one batch is hidden until its last, short transaction, so nobody sees a part of it. What a
killed import leaves is removed by the next one that brings the conversation, or by `flask purge` after a day.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

from ..attachments import service as attachments
from ..attachments.models import Attachment
from ..completions import service as completions
from ..completions.models import USAGE_DETAILS, Completion
from ..conversations import service as conversations
from ..database.bulk import insert_rows
from ..database.columns import new_id
from ..errors import NotFound, QuotaExceeded, Unavailable
from ..files.models import AttachmentDraft
from ..messages import active_path
from ..messages import service as messages
from ..messages.long_moves import move_in_steps
from ..messages.models import Message
from ..search_index.writer import Terms, terms_maker
from . import import_queries
from .details import as_imported, with_defaults
from .file_importer import Content, FileImporter
from .records import ATTACHMENT, COMPLETION, CONVERSATION, FILE, MESSAGE, Record
from .schemas import LINES

BATCH_ROWS = 1000
BATCH_FILE_BYTES = 64 * 1024 * 1024  # their rows follow soon, as a sweep deletes bytes without a row
BATCH_BYTES = 128 * 1024  # some 15 ms on SQLite, most of it for the index of words
# all columns, so that rows of several lines have the same
_NO_CONVERSATION = {field.attribute or name: None for name, field in LINES[CONVERSATION].fields.items()}
_NO_MESSAGE = dict.fromkeys(LINES[MESSAGE].fields)
_ATTACHMENT_COLUMNS = ("id", "message_id", "file_type", "file_path", "created_at")
CLASHES = "It clashes with something that was stored at the same time; import the file again."

NO_PARENT = "parent_id: There is no such message before it."


def is_full_batch(rows: int, size_bytes: int) -> bool:
    """Whether so many rows, or lines of so many bytes, are to be stored before others are read."""
    return rows >= BATCH_ROWS or size_bytes >= BATCH_BYTES


class Refused(Exception):
    """Why a conversation can't be stored, and the number of the record that says so."""

    def __init__(self, number: int, detail: str) -> None:
        super().__init__(detail)
        self.number, self.detail = number, detail


class AlreadyHere(Exception):
    """Another request has stored the conversation in the meantime."""


class Whole(NamedTuple):
    """All rows of a conversation."""

    conversation: dict[str, Any]
    messages: list[dict[str, Any]]
    terms: list[Terms]
    attachments: list[dict[str, Any]]
    completions: list[dict[str, Any]]


class ConversationImporter:
    """Takes the records of a conversation in their order. All methods raise Refused for one that does not fit.

    The transaction begins with the first batch: SQLite has one writer, which must not be blocked while a file is read.
    """

    def __init__(
        self, *, user_id: str, record: Record, provider_ids: dict[str, str], files: FileImporter
    ) -> None:
        self._first_number = record.number
        fields = record.fields
        self.id: str = fields["id"]
        self.counts = {MESSAGE: 0, ATTACHMENT: 0, COMPLETION: 0, FILE: 0}
        self.parts_omitted = 0
        self._files = files
        self._content: Content | None = None  # of the attachment that is added next
        self._user_id, self._fields, self._provider_ids = user_id, fields, provider_ids
        self._make_terms = terms_maker(user_id, self.id)
        self.import_id = new_id()
        self.is_hidden = False  # and stored in part
        self._position = 0
        self._last_id: str | None = None
        # The active path is taken to end where a message does not answer the one before it; `close` corrects that.
        # In nearly all conversations there is nothing to correct.
        self._path_ends_at: str | None = None
        self._path_length = self._content_bytes = 0
        self._is_on_path = not self._has_empty_path
        self._begin_batch()

    @property
    def _has_empty_path(self) -> bool:
        """Whether its active path was empty though it had messages."""
        return self._fields["active_leaf_id"] is None and self._fields["last_position"] > 0

    def keep_content(self, record: Record) -> Generator[Any, None, bool]:
        """Keep the content of the attachment that is added next; outside a transaction. PAUSED now and then.

        Returns whether it is to be added: one of another product is nothing without its content.
        """
        self._content = yield from self._files.keep(record)
        return self._content is not None or "member" not in record.fields

    def add(self, record: Record) -> bool:
        """Take a message, attachment or completion; whether a batch was stored before, which the caller commits.

        Raises AlreadyHere, and NotFound where the user is gone.
        """
        if record.kind != ATTACHMENT and record.fields["conversation_id"] != self.id:
            raise Refused(record.number, "conversation_id: Not that of the conversation before it.")
        # before the batch's transaction, like all that takes time
        terms = self._terms_of(record)
        stores = self.is_full
        if stores:
            self._hold_owner()
            self._store_hidden()
        if record.kind == MESSAGE:
            self._add_message(record, terms)
        elif record.kind == ATTACHMENT:
            self._add_attachment(record)
        else:
            self._add_completion(record)
        self._count(record)
        self._batch_bytes += record.size_bytes
        return stores

    @property
    def is_complete(self) -> bool:
        """Whether no message of the batch answers one that is not in it."""
        return not self._parents

    def whole(self) -> Whole:
        """All rows of a new conversation that is complete, and of which nothing was stored."""
        leaf_id = self._fields["active_leaf_id"]
        if leaf_id not in self._numbers[MESSAGE]:
            leaf_id = None if self._has_empty_path else self._last_id
        if leaf_id != self._path_ends_at:
            self._mark_path(leaf_id)
        row = {
            **self._row(hidden_by=None),
            "message_count": self.counts[MESSAGE],
            "last_position": max(self._fields["last_position"], self._position),
            "active_leaf_id": leaf_id,
            "path_length": self._path_length,
            "counted_leaf_id": leaf_id,
            "content_bytes": sum(message["size_bytes"] for message in self._messages),
        }
        return Whole(row, self._messages, self._terms, self._attachments, self._completions)

    def _mark_path(self, leaf_id: str | None) -> None:
        """Let the active path of the batch end at one of its messages."""
        parents = {message["id"]: message["parent_id"] for message in self._messages}
        path = set()
        while leaf_id is not None:
            path.add(leaf_id)
            leaf_id = parents[leaf_id]
        for message in self._messages:
            message["on_path"] = message["id"] in path
        self._path_length = len(path)

    def _hold_owner(self) -> None:
        """Before all other locks, as an upload does."""
        if self._contents:
            self._files.hold_owner()

    def _terms_of(self, record: Record) -> Terms | None:
        """Those of a message that is to be stored."""
        return (
            self._make_terms(record.fields["id"], record.fields["content"])
            if record.kind == MESSAGE
            else None
        )

    def _count(self, record: Record) -> None:
        self.counts[record.kind] += 1
        self.counts[FILE] += record.kind == ATTACHMENT and self._content is not None
        self.parts_omitted += record.omitted

    def close(self) -> Iterator[None]:
        """Store what is left, restore the active leaf, and let the conversation be seen.

        In steps, each to be committed. Raises what `add` does.
        """
        own = {"user_id": self._user_id, "conversation_id": self.id}
        self._hold_owner()
        if not self.is_hidden:  # it is small
            self._insert_conversation(hidden_by=None)
            self._store_batch()
            self._complete()
            if (leaf_id := self._leaf()) is not None:
                active_path.set_active_leaf(**own, message_id=leaf_id)
            yield
            return
        self._store_hidden()
        self._complete()
        yield
        if (leaf_id := self._leaf()) is not None:
            try:
                yield from move_in_steps(**own, message_id=leaf_id, hidden_by=self.import_id)
            except NotFound:
                self._require_hidden()  # which says so where another import has removed it
                raise
        self._require_hidden()
        import_queries.update_conversation(**own, hidden_by=None)
        yield

    def _complete(self) -> None:
        """Store what is known of the conversation when all its messages are there."""
        import_queries.update_conversation(
            user_id=self._user_id,
            conversation_id=self.id,
            message_count=self.counts[MESSAGE],
            last_position=max(self._fields["last_position"], self._position),
            active_leaf_id=self._path_ends_at,
            path_length=self._path_length,
            counted_leaf_id=self._path_ends_at,
            content_bytes=self._content_bytes,
        )

    def _leaf(self) -> str | None:
        """The message at which the path ends; the newest one where it was deleted while the export was written."""
        newest_id = self._last_id
        if self._has_empty_path or newest_id is None:
            return None
        leaf_id = self._fields["active_leaf_id"]
        if leaf_id is None or leaf_id == newest_id:
            return newest_id
        here = import_queries.messages_here(user_id=self._user_id, conversation_id=self.id, ids=[leaf_id])
        return leaf_id if here else newest_id

    def _add_message(self, record: Record, terms: Terms | None) -> None:
        fields = record.fields
        if fields["position"] <= self._position:
            raise Refused(record.number, "position: Must be greater than that of the message before it.")
        self._require_message(fields["parent_id"], record.number)
        self._take_id(MESSAGE, record)
        self._is_on_path = self._is_on_path and fields["parent_id"] == self._last_id
        if self._is_on_path:
            self._path_ends_at = fields["id"]
            self._path_length += 1
        if terms is not None:
            self._terms.append(terms)
        texts = {
            "content": fields["content"],
            "tool_calls": _json(fields.get("tool_calls")),
            "sources": _json(fields.get("sources")),
            "parts": _json(fields.get("parts")),
            "erased": _json(fields.get("erased")),
            "provider_state": _json(self._state_here(fields.get("provider_state"))),
        }
        self._messages.append(
            _NO_MESSAGE
            | fields
            | {
                "user_id": self._user_id,
                "on_path": self._is_on_path,
                "size_bytes": messages.size_of(fields=texts),
                "attachment_count": 0,
                **texts,
            }
        )
        self._position, self._last_id, self._attachment_count = fields["position"], fields["id"], 0

    def _state_here(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """What goes back to a provider, with the id that the provider has here."""
        if state is None:
            return None
        return {**state, "provider_id": self._provider_id_here(state["provider_id"])}

    def _provider_id_here(self, provider_id: str) -> str:
        return self._provider_ids.get(provider_id, provider_id)

    def _add_attachment(self, record: Record) -> None:
        fields = record.fields
        if fields["message_id"] != self._last_id:
            raise Refused(record.number, "message_id: An attachment comes right after its message.")
        self._take_id(ATTACHMENT, record)
        if self._content is not None:
            self._contents[fields["id"]] = self._content
            self._kept_bytes += self._content.kept.upload.size_bytes
            fields = {**fields, **label_of(fields["id"], self._content)}
        self._attachment_count += 1
        if self._messages:
            self._messages[-1]["attachment_count"] = self._attachment_count
        else:  # the message was stored with the batch before
            self._late_counts[fields["message_id"]] = self._attachment_count
        row = {name: fields[name] for name in _ATTACHMENT_COLUMNS}
        self._attachments.append({**row, "user_id": self._user_id, "position": self._attachment_count})

    def _add_completion(self, record: Record) -> None:
        fields = record.fields
        self._take_id(COMPLETION, record)
        self._require_message(fields["parent_id"], record.number)
        usage = fields["usage"]
        self._completions.append(
            {name: value for name, value in fields.items() if name != "usage"}
            | {
                "user_id": self._user_id,
                "provider_id": self._provider_id_here(fields["provider_id"]),
                "problem": _json(fields["problem"]),
                "warnings": _json(fields["warnings"]),
                "omitted_attachments": _json(fields["omitted_attachments"]),
                "outline": _json(fields["outline"]),
                "prompt_tokens": usage["prompt_tokens"],
                "completion_tokens": usage["completion_tokens"],
                **{name: usage.get(name) for name in USAGE_DETAILS},
                "usage_estimated": usage["estimated"],
                # nobody writes it any more
                "worker_id": new_id(),
                "lease_expires_at": fields["finished_at"] or fields["created_at"],
                "cancel_requested": False,
            }
        )

    def _take_id(self, kind: str, record: Record) -> None:
        """An id is used once. Those of earlier batches, and of other conversations, are looked up with the batch."""
        numbers = self._numbers[kind]
        if record.fields["id"] in numbers:
            raise Refused(record.number, "id: It is used already.")
        numbers[record.fields["id"]] = record.number

    def _require_message(self, message_id: str | None, number: int) -> None:
        """A parent comes before its answer: it is the last message, in this batch, or stored already."""
        if message_id not in (None, self._last_id) and message_id not in self._numbers[MESSAGE]:
            self._parents.setdefault(message_id, number)

    def _begin_batch(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._terms: list[Terms] = []
        self._attachments: list[dict[str, Any]] = []
        self._completions: list[dict[str, Any]] = []
        self._contents: dict[str, Content] = {}  # of attachments, by their ids
        self._kept_bytes = 0
        self._late_counts: dict[str, int] = {}
        self._batch_bytes = 0
        # id -> number of its record
        self._numbers: dict[str, dict[str, int]] = {MESSAGE: {}, ATTACHMENT: {}, COMPLETION: {}}
        # messages that must be stored already -> number of the first record that answers them
        self._parents: dict[str, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether the batch is to be stored before anything is added."""
        return (
            is_full_batch(len(self._messages), self._batch_bytes)
            or len(self._attachments) >= BATCH_ROWS
            or len(self._completions) >= BATCH_ROWS
            or self._kept_bytes >= BATCH_FILE_BYTES
        )

    def _insert_conversation(self, *, hidden_by: str | None) -> None:
        self._require_room(count=1)
        if not import_queries.insert_conversation(self._row(hidden_by=hidden_by)):
            raise AlreadyHere()

    def _row(self, *, hidden_by: str | None) -> dict[str, Any]:
        """The conversation's; what depends on its messages is set by `close`."""
        return {
            **_NO_CONVERSATION,
            **with_defaults(self._fields),
            "user_id": self._user_id,
            "active_leaf_id": None,
            "message_count": 0,
            "imported": as_imported(self._fields),
            "hidden_by": hidden_by,
        }

    def _store_hidden(self) -> None:
        """Store the batch of a conversation that nobody sees yet, with the first one the conversation itself."""
        if self.is_hidden:
            self._require_hidden()
        else:
            self._insert_conversation(hidden_by=self.import_id)
        self._store_batch()
        self.is_hidden = True

    def _require_hidden(self) -> None:
        """Lock the conversation. Raises Refused where another import of it has removed what this one has stored."""
        own = {"user_id": self._user_id, "conversation_id": self.id}
        if not import_queries.lock_hidden(**own, hidden_by=self.import_id):
            raise Refused(self._first_number, CLASHES)

    def _store_batch(self) -> None:
        for kind, model in ((MESSAGE, Message), (ATTACHMENT, Attachment), (COMPLETION, Completion)):
            self._require_unused(kind, model)
        self._require_no_drafts()
        self._require_parents()
        batch_bytes: int = sum(message["size_bytes"] for message in self._messages)
        self._require_room(messages=len(self._messages), message_bytes=batch_bytes)
        with self._refused_beyond_quota():
            attachments.QUOTAS.require_room(len(self._attachments), user_id=self._user_id)
            completions.QUOTAS.require_room(len(self._completions), user_id=self._user_id)
        self._content_bytes += batch_bytes
        import_queries.discard_plans()
        if self._messages:
            messages.insert_messages(rows=self._messages, terms=self._terms)
        for message_id, count in self._late_counts.items():
            import_queries.count_attachments(user_id=self._user_id, message_id=message_id, count=count)
        if self._attachments:
            insert_rows(Attachment, self._attachments)
            self._store_contents({row["id"]: row["message_id"] for row in self._attachments})
        if self._completions:
            insert_rows(Completion, self._completions)
        self._begin_batch()

    def _store_contents(self, message_ids: dict[str, str]) -> None:
        """Give the attachments of the batch their contents; `message_ids` are those of their messages."""
        if not self._contents:
            return
        try:
            with self._refused_beyond_quota():
                file_ids = self._files.store(self._contents.values())
        except Unavailable as error:  # a file was deleted since it was found here
            raise Refused(self._first_number, CLASHES) from error
        rows = [
            (id_, message_ids[id_], file_ids[content.kept.upload.sha256], content.file_name)
            for id_, content in self._contents.items()
        ]
        attachments.add_contents(user_id=self._user_id, rows=rows)

    def discard_contents(self) -> None:
        """Delete bytes that were kept for a batch that is not stored. Outside a transaction."""
        self._files.discard()

    def _require_room(self, *, count: int = 0, messages: int = 0, message_bytes: int = 0) -> None:
        with self._refused_beyond_quota():
            conversations.QUOTAS.require_room(count, messages, message_bytes, user_id=self._user_id)

    @contextmanager
    def _refused_beyond_quota(self) -> Iterator[None]:
        try:
            yield
        except QuotaExceeded as exceeded:
            raise Refused(self._first_number, exceeded.detail) from exceeded

    def _require_unused(self, kind: str, model: Any) -> None:
        numbers = self._numbers[kind]
        used = import_queries.used_ids(model, model.user_id == self._user_id, ids=numbers) if numbers else ()
        if used:
            raise Refused(min(numbers[used_id] for used_id in used), "id: It is used already.")

    def _require_no_drafts(self) -> None:
        """An upload becomes an attachment with its own id when its message is posted."""
        numbers = self._numbers[ATTACHMENT]
        used = (
            import_queries.used_ids(AttachmentDraft, AttachmentDraft.user_id == self._user_id, ids=numbers)
            if numbers
            else ()
        )
        if used:
            raise Refused(min(numbers[used_id] for used_id in used), "id: It is that of an upload.")

    def _require_parents(self) -> None:
        if not self._parents:
            return
        here = import_queries.messages_here(user_id=self._user_id, conversation_id=self.id, ids=self._parents)
        missing = [number for message_id, number in self._parents.items() if message_id not in here]
        if missing:
            raise Refused(min(missing), NO_PARENT)


def label_of(attachment_id: str, content: Content) -> dict[str, str]:
    """What an attachment with content says of it."""
    return {
        "file_type": content.kept.upload.file_type,
        "file_path": attachments.path_of(attachment_id=attachment_id),
    }


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
