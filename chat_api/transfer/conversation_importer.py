"""One conversation that is being stored, in batches, each a transaction of the caller's.

One that takes more than one batch is hidden until its last, short transaction, so nobody sees a part of it. What a
killed import leaves is removed by the next one that brings the conversation, or by `flask purge` after a day.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from ..attachments import service as attachments
from ..attachments.models import Attachment
from ..completions import service as completions
from ..completions.models import Completion
from ..conversations import service as conversations
from ..database.bulk import insert_rows
from ..database.columns import new_id
from ..errors import NotFound, QuotaExceeded
from ..messages import active_path
from ..messages import service as messages
from ..messages.long_moves import move_in_steps
from ..messages.models import Message
from ..search_index.writer import Words, words_of
from . import import_queries
from .records import ATTACHMENT, COMPLETION, MESSAGE, Record
from .schemas import LINES

BATCH_ROWS = 200
BATCH_BYTES = 64 * 1024  # about 40 ms on SQLite, most of it for the index of words
CLASHES = "It clashes with something that was stored at the same time; import the file again."


class Refused(Exception):
    """Why a conversation can't be stored, and the number of the record that says so."""

    def __init__(self, number: int, detail: str) -> None:
        super().__init__(detail)
        self.number, self.detail = number, detail


class AlreadyHere(Exception):
    """Another request has stored the conversation in the meantime."""


class ConversationImporter:
    """Takes the records of a conversation in their order. All methods raise Refused for one that does not fit.

    The transaction begins with the first batch: SQLite has one writer, which must not be blocked while a file is read.
    """

    def __init__(self, *, user_id: str, record: Record, provider_ids: dict[str, str]) -> None:
        self._first_number = record.number
        fields = record.fields
        self.id: str = fields["id"]
        self.counts = {MESSAGE: 0, ATTACHMENT: 0, COMPLETION: 0}
        self.parts_omitted = 0
        self._user_id, self._fields, self._provider_ids = user_id, fields, provider_ids
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

    def add(self, record: Record) -> bool:
        """Take a message, attachment or completion; whether a batch was stored before, which the caller commits.

        Raises AlreadyHere, and NotFound where the user is gone.
        """
        if record.kind != ATTACHMENT and record.fields["conversation_id"] != self.id:
            raise Refused(record.number, "conversation_id: Not that of the conversation before it.")
        # before the batch's transaction, like all that takes time
        words = self._words_of(record)
        stores = self._is_full
        if stores:
            self._store_hidden()
        if record.kind == MESSAGE:
            self._add_message(record, words)
        elif record.kind == ATTACHMENT:
            self._add_attachment(record)
        else:
            self._add_completion(record)
        self._count(record)
        self._batch_bytes += record.size_bytes
        return stores

    def _words_of(self, record: Record) -> Words:
        return words_of(record.fields["content"]) if record.kind == MESSAGE else []

    def _count(self, record: Record) -> None:
        self.counts[record.kind] += 1
        self.parts_omitted += record.omitted

    def close(self) -> Iterator[None]:
        """Store what is left, restore the active leaf, and let the conversation be seen.

        In steps, each to be committed. Raises what `add` does.
        """
        own = {"user_id": self._user_id, "conversation_id": self.id}
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

    def _add_message(self, record: Record, words: Words) -> None:
        fields = record.fields
        if fields["position"] <= self._position:
            raise Refused(record.number, "position: Must be greater than that of the message before it.")
        self._require_message(fields["parent_id"], record.number)
        self._take_id(MESSAGE, record)
        self._is_on_path = self._is_on_path and fields["parent_id"] == self._last_id
        if self._is_on_path:
            self._path_ends_at = fields["id"]
            self._path_length += 1
        self._words.append(words)
        texts = {
            "content": fields["content"],
            "tool_calls": _json(fields.get("tool_calls")),
            "sources": _json(fields.get("sources")),
            "provider_state": _json(self._state_here(fields.get("provider_state"))),
        }
        self._messages.append(
            dict.fromkeys(LINES[MESSAGE].fields)
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
        self._attachment_count += 1
        if self._messages:
            self._messages[-1]["attachment_count"] = self._attachment_count
        else:  # the message was stored with the batch before
            self._late_counts[fields["message_id"]] = self._attachment_count
        self._attachments.append({**fields, "user_id": self._user_id, "position": self._attachment_count})

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
                "outline": _json(fields["outline"]),
                "prompt_tokens": usage["prompt_tokens"],
                "completion_tokens": usage["completion_tokens"],
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
        self._words: list[Words] = []
        self._attachments: list[dict[str, Any]] = []
        self._completions: list[dict[str, Any]] = []
        self._late_counts: dict[str, int] = {}
        self._batch_bytes = 0
        # id -> number of its record
        self._numbers: dict[str, dict[str, int]] = {MESSAGE: {}, ATTACHMENT: {}, COMPLETION: {}}
        # messages that must be stored already -> number of the first record that answers them
        self._parents: dict[str, int] = {}

    @property
    def _is_full(self) -> bool:
        most_rows = max(len(self._messages), len(self._attachments), len(self._completions))
        return most_rows >= BATCH_ROWS or self._batch_bytes >= BATCH_BYTES

    def _insert_conversation(self, *, hidden_by: str | None) -> None:
        self._require_room(count=1)
        # what depends on its messages is set by `close`
        row = {
            **self._fields,
            "user_id": self._user_id,
            "active_leaf_id": None,
            "message_count": 0,
            "hidden_by": hidden_by,
        }
        if not import_queries.insert_conversation(row):
            raise AlreadyHere()

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
        self._require_parents()
        batch_bytes: int = sum(message["size_bytes"] for message in self._messages)
        self._require_room(messages=len(self._messages), message_bytes=batch_bytes)
        with self._refused_beyond_quota():
            attachments.QUOTAS.require_room(len(self._attachments), user_id=self._user_id)
            completions.QUOTAS.require_room(len(self._completions), user_id=self._user_id)
        self._content_bytes += batch_bytes
        import_queries.discard_plans()
        if self._messages:
            messages.insert_messages(rows=self._messages, words=self._words)
        for message_id, count in self._late_counts.items():
            import_queries.count_attachments(user_id=self._user_id, message_id=message_id, count=count)
        if self._attachments:
            insert_rows(Attachment, self._attachments)
        if self._completions:
            insert_rows(Completion, self._completions)
        self._begin_batch()

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

    def _require_parents(self) -> None:
        if not self._parents:
            return
        here = import_queries.messages_here(user_id=self._user_id, conversation_id=self.id, ids=self._parents)
        missing = [number for message_id, number in self._parents.items() if message_id not in here]
        if missing:
            raise Refused(min(missing), "parent_id: There is no such message before it.")


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
