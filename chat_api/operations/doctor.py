"""Looks for rows that do not agree with each other, and repairs them: `flask doctor`.

It goes through all users in the order of their ids, in batches that are short statements on indexes, with rests. What
looks wrong is looked at again under the lock that its writers take, so that a running service is no finding.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import sqlalchemy as sa

from ..attachments.models import Attachment
from ..completions import finalize, lease
from ..completions.models import IN_PROGRESS, Completion
from ..conversations.models import IS_VISIBLE, Conversation
from ..database.bulk import LONGEST_REST_S, list_foreign_keys, read, read_in_batches
from ..database.columns import Id
from ..database.dialect import is_postgres
from ..database.session import db
from ..messages import repair
from ..messages.models import Message
from ..search import backlog
from ..search_index.models import MessageTerms, SearchBacklog
from ..users.models import User
from . import maintenance

ATTACHMENT_COUNT = "attachment_count"
SEARCH_MISSING = "search_missing"
ORPHANS = "orphans"
COMPLETIONS = "completions"
SECRETS = "secrets"
DESCRIPTIONS = {
    repair.LAST_POSITION: "conversations whose last position is lower than that of a message",
    repair.MESSAGE_COUNT: "conversations whose message count is wrong",
    repair.ACTIVE_PATH: "conversations whose active path is broken",
    repair.PATH_LENGTH: "conversations whose stored path length is wrong",
    repair.CONTENT_BYTES: "conversations whose stored size is wrong",
    ATTACHMENT_COUNT: "messages whose attachment count is lower than a position in use",
    SEARCH_MISSING: "messages that search does not find",
    ORPHANS: "rows whose owner or parent row is gone",
    COMPLETIONS: "completions in progress without a worker",
    SECRETS: "secrets that ENCRYPTION_KEYS can't open",
}
_IS_IN_FTS5 = "EXISTS (SELECT 1 FROM message_index_docsize WHERE id = message_terms.number)"
# as the trigger does (migration 0006)
_INSERT_INTO_FTS5 = """
    INSERT INTO message_index (rowid, terms)
    SELECT number, replace(terms, ' ', ' ' || substr(user_id, -6)) FROM message_terms
    WHERE user_id = :owner AND message_id = :message
"""
BATCH = 500
EXAMPLES = 5


@dataclass
class Finding:
    """What was found of a kind."""

    found: int = 0
    repaired: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, id_: str, *, is_repaired: bool) -> None:
        """Count one more."""
        self.found += 1
        self.repaired += is_repaired
        if len(self.examples) < EXAMPLES:
            self.examples.append(id_)


class Doctor:
    """One examination. `findings` has an entry for each kind."""

    def __init__(self, *, repairs: bool) -> None:
        self.findings = {kind: Finding() for kind in DESCRIPTIONS}
        self._repairs = repairs

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found that is not repaired."""
        return all(finding.found == finding.repaired for finding in self.findings.values())

    def examine_and_commit(self, *, after: str | None = None) -> Iterator[str]:
        """Examine all users, or those whose ids are greater than `after`; yields the id of each when it is done.

        What belongs to no user is examined first, unless it goes on after a user.
        """
        if after is None:
            self._examine_orphans()
            self._examine_completions()
            self._examine_secrets()
        for user_id in _user_ids(after):
            for check in (self._examine_conversations, self._examine_attachments, self._examine_search):
                check(user_id)
            yield user_id
        if self._repairs and self.findings[SEARCH_MISSING].found:
            for _ in backlog.index_backlog():
                pass

    # -- conversations -------------------------------------------------------------------------------------

    def _examine_conversations(self, user_id: str) -> None:
        for (conversation_id,) in _rows(Conversation.id, where=[Conversation.user_id == user_id, IS_VISIBLE]):
            own = {"user_id": user_id, "conversation_id": conversation_id}
            if repair.inspect(**own).kinds:
                self._examine_locked(own)

    def _examine_locked(self, own: dict[str, str]) -> None:
        with _step(commits=self._repairs):
            if not repair.lock(**own):
                return
            findings = repair.repair_locked(**own) if self._repairs else repair.inspect(**own)
        for kind in findings.kinds:
            self.findings[kind].add(own["conversation_id"], is_repaired=self._repairs)

    # -- attachments ---------------------------------------------------------------------------------------

    def _examine_attachments(self, user_id: str) -> None:
        its = sa.and_(Message.user_id == Attachment.user_id, Message.id == Attachment.message_id)
        is_less = Message.attachment_count < Attachment.position
        rows = _rows(
            Attachment.message_id,
            Attachment.position,
            where=[Attachment.user_id == user_id],
            also=[is_less],
            join=(Message, its),
        )
        newest = {message_id: position for message_id, position, is_wrong in rows if is_wrong}
        for message_id, position in newest.items():
            self._examine_attachment_count(user_id, message_id, position)

    def _examine_attachment_count(self, user_id: str, message_id: str, position: int) -> None:
        its = (Message.user_id == user_id, Message.id == message_id, Message.attachment_count < position)
        with _step(commits=self._repairs):
            found = db.session.scalar(sa.select(Message.id).where(*its).with_for_update())
            if found and self._repairs:
                db.session.execute(sa.update(Message).where(*its).values(attachment_count=position))
        if found:
            self.findings[ATTACHMENT_COUNT].add(message_id, is_repaired=self._repairs)

    # -- search --------------------------------------------------------------------------------------------

    def _examine_search(self, user_id: str) -> None:
        """Messages without words, or on SQLite with words that FTS5 does not have; unless they wait to be."""
        greatest = None
        for message_id, has_words in self._unindexed(user_id):
            self.findings[SEARCH_MISSING].add(message_id, is_repaired=self._repairs)
            if self._repairs and has_words:
                with _step(commits=True):
                    db.session.execute(sa.text(_INSERT_INTO_FTS5), {"owner": user_id, "message": message_id})
            elif self._repairs:
                greatest = message_id
        if greatest is not None:
            with _step(commits=True):
                _put_into_backlog(user_id, greatest)

    def _unindexed(self, user_id: str) -> Iterator[tuple[str, bool]]:
        """The id of each message that search does not find, and whether it has words."""
        own = [Message.user_id == user_id]
        if waiting := read(sa.select(SearchBacklog.upto_id).where(SearchBacklog.user_id == user_id)):
            own.append(Message.id > waiting[0][0])
        its = sa.and_(MessageTerms.user_id == Message.user_id, MessageTerms.message_id == Message.id)
        has_words = MessageTerms.message_id.is_not(None)
        is_found = has_words if is_postgres(db.engine) else sa.literal_column(_IS_IN_FTS5)
        rows = _rows(Message.id, where=own, also=[has_words, is_found], join=(MessageTerms, its))
        return ((message_id, bool(words)) for message_id, words, found in rows if not found)

    # -- orphans -------------------------------------------------------------------------------------------

    def _examine_orphans(self) -> None:
        """Rows whose foreign key leads nowhere, parents before children; a database does not allow them, unless it
        was told to."""
        for table, key in list_foreign_keys():
            self._examine_key(table, key)

    def _examine_key(self, table: sa.Table, key: sa.ForeignKeyConstraint) -> None:
        parent = key.referred_table.alias("parent")
        pairs = [(element.parent, parent.c[element.column.name]) for element in key.elements]
        has_parent = sa.select(sa.literal(1)).where(*(child == column for child, column in pairs))
        is_orphan = [child.is_not(None) for child, _ in pairs] + [~has_parent.exists()]
        own_key = list(table.primary_key)
        for row in _rows(*own_key, also=[sa.and_(*is_orphan)]):
            *id_, is_lost = row
            if not is_lost:
                continue
            if self._repairs:
                with _step(commits=True):
                    its = [column == value for column, value in zip(own_key, id_, strict=True)]
                    db.session.execute(sa.delete(table).where(*its, *is_orphan))
            self.findings[ORPHANS].add(f"{table.name} {id_[-1]}", is_repaired=self._repairs)

    # -- completions and secrets ---------------------------------------------------------------------------

    def _examine_completions(self) -> None:
        key = [Completion.user_id, Completion.id]
        running = Completion.status == sa.literal_column(f"'{IN_PROGRESS}'")
        found = read(sa.select(*key).where(running, lease.IS_OVER))
        if found and self._repairs:
            finalize.reap_abandoned_and_commit()
        for user_id, completion_id in found:
            its = (Completion.user_id == user_id, Completion.id == completion_id, running)
            is_ended = not read(sa.select(Completion.id).where(*its))
            self.findings[COMPLETIONS].add(completion_id, is_repaired=is_ended)

    def _examine_secrets(self) -> None:
        for _, broken in maintenance.count_secrets():
            self.findings[SECRETS].found += broken


def _put_into_backlog(user_id: str, upto_id: str) -> None:
    """Have messages up to this one indexed as far as they are not."""
    waiting = db.session.get(SearchBacklog, user_id)
    if waiting is None:
        db.session.add(SearchBacklog(user_id=user_id, upto_id=upto_id, replaces=False))
    else:
        waiting.upto_id = max(waiting.upto_id, upto_id)
    db.session.flush()


class _step:
    """A transaction of `db.session` that is committed, or only looked at; then a rest that is as long."""

    def __init__(self, *, commits: bool) -> None:
        self._end: Callable[[], None] = db.session.commit if commits else db.session.rollback

    def __enter__(self) -> None:
        db.session.rollback()
        db.session.connection()
        self._began = time.monotonic()

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self._end()
        else:
            db.session.rollback()
        time.sleep(min(time.monotonic() - self._began, LONGEST_REST_S))


def _rows(*key: Any, where: Iterable[Any] = (), **given: Any) -> Iterator[tuple[Any, ...]]:
    """The rows in the order of their key, see `read_in_batches`."""
    return chain.from_iterable(read_in_batches(list(key), *where, limit=BATCH, **given))


def _user_ids(after: str | None) -> Iterator[str]:
    where = [] if after is None else [User.id > sa.literal(after, Id())]
    for (user_id,) in _rows(User.id, where=where):
        yield user_id
