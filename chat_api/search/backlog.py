"""Indexing messages that were there before the index, or before a new way to index: batch by batch, while others write.

What is left is in the table `search_backlog`, so an interrupted indexing goes on where it was. A batch locks what it
indexes, and leaves out what others have locked: it never waits for a request, and they wait only for its few
milliseconds. Messages that are stored meanwhile are indexed by whoever stores them.
"""

import time
from collections.abc import Generator
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from ..database.columns import Id
from ..database.dialect import is_postgres
from ..database.engine import reading
from ..database.fleet_lock import try_fleet_lock
from ..database.session import db
from ..database.statements import Statement
from ..messages.models import Message
from ..search_index.models import MessageTerms, SearchBacklog
from ..search_index.writer import IndexedMessage, write_words
from ..users.models import User
from .documents import document_bytes, texts_of, words_with_documents

GREATEST_ID = str(UUID(int=2**128 - 1))
# On SQLite nobody else writes during a batch. So it ends soon, and is followed by a rest that is as long
SQLITE_BATCH_S = 0.01
POSTGRES_BATCH_S = 0.1
USERS_AT_ONCE = 50
MESSAGES_AT_ONCE = 50
BYTES_AT_ONCE = 128 * 1024
LOOKED_AT_ONCE = 1000
LEAST_REST_S = 0.01

_IS_WAITING = Statement(
    sa.select(sa.literal(1)).where(SearchBacklog.user_id == sa.bindparam("owner", type_=Id()))
)
# deleting locks the conversation first, and so waits here; appending does not. An edit waits for the message.
_CONTENTS = """
    SELECT m.id, m.conversation_id, m.content FROM messages AS m
    JOIN conversations AS c ON c.user_id = m.user_id AND c.id = m.conversation_id
    WHERE m.user_id = :owner AND m.id IN :ids
"""
_LOCK_CONTENTS = "FOR KEY SHARE OF c SKIP LOCKED FOR SHARE OF m SKIP LOCKED"


class Batch(NamedTuple):
    """Messages that are indexed together, and up to which id others are left; None for no others."""

    ids: list[str]
    left_upto: str | None


def is_complete(*, user_id: str) -> bool:
    """Whether all messages of the user are indexed."""
    return _IS_WAITING.first(owner=user_id) is None


def is_empty() -> bool:
    """Whether nothing is left to do for anybody."""
    with reading(db.engine).connect() as connection:
        return connection.scalar(sa.select(SearchBacklog.user_id).limit(1)) is None


def index_backlog() -> Generator[int | None, None, None]:
    """Index what is left, if no other process does: in batches, each committed, with rests in between.

    How many messages each batch had; one None where another process indexes.
    """
    with try_fleet_lock("indexing") as is_held:
        if not is_held:
            yield None
            return
        while not is_empty():
            began = time.monotonic()
            with db.engine.begin() as connection:
                count = index_next_batch(connection)
            rest_s = max(time.monotonic() - began, LEAST_REST_S)
            yield count
            time.sleep(rest_s)


def begin_rebuild(connection: sa.Connection) -> bool:
    """Put all messages of all users into the backlog; False where an earlier rebuild has not ended and goes on."""
    running = sa.select(SearchBacklog.user_id).where(SearchBacklog.replaces).limit(1)
    if connection.scalar(running) is not None:
        return False
    connection.execute(sa.delete(SearchBacklog))
    everybody = sa.select(User.id, sa.literal(GREATEST_ID, Id()), sa.true())
    columns = ("user_id", "upto_id", "replaces")
    connection.execute(sa.insert(SearchBacklog).from_select(columns, everybody))
    return True


def index_next_batch(connection: sa.Connection) -> int:
    """Index some messages, in the caller's transaction; how many. None of them is one that somebody else has locked."""
    ends_at = time.monotonic() + (POSTGRES_BATCH_S if is_postgres(connection) else SQLITE_BATCH_S)
    count = 0
    waiting = sa.select(SearchBacklog.user_id).order_by(SearchBacklog.user_id).limit(USERS_AT_ONCE)
    for user_id in connection.scalars(waiting).all():
        goes_on = True
        while goes_on:
            indexed, goes_on = _index_some(connection, user_id)
            count += indexed
            if time.monotonic() >= ends_at:
                return count
    return count


def _index_some(connection: sa.Connection, user_id: str) -> tuple[int, bool]:
    """How many messages of the user were indexed, and whether it can go on with others of them."""
    own = SearchBacklog.user_id == user_id
    lock = sa.select(SearchBacklog.upto_id, SearchBacklog.replaces).where(own)
    row = connection.execute(lock.with_for_update(skip_locked=True)).first()
    if row is None:
        return 0, False
    ids, left_upto = _next_batch(connection, user_id, *row)
    messages = _lock_messages(connection, user_id, ids)
    is_cut = len(messages) < len(ids)
    if is_cut:  # somebody changes the others just now
        found = {message[0] for message in messages}
        left_upto = next(id_ for id_ in ids if id_ not in found)
        messages = [message for message in messages if message[0] > left_upto]
    if messages:
        write_words(connection, user_id, messages)
    if left_upto is None:
        connection.execute(sa.delete(SearchBacklog).where(own))
    else:
        connection.execute(sa.update(SearchBacklog).where(own).values(upto_id=left_upto))
    return len(messages), left_upto is not None and not is_cut


def _next_batch(connection: sa.Connection, user_id: str, upto_id: str, replaces: bool) -> Batch:
    newest_first = (
        sa.select(Message.id, Message.size_bytes + document_bytes())
        .where(Message.user_id == user_id, Message.id <= upto_id)
        .order_by(Message.id.desc())
        .limit(LOOKED_AT_ONCE)
    )
    rows = connection.execute(newest_first).all()
    if not rows:
        return Batch([], None)
    indexed: set[str] = set()
    if not replaces:
        span = (MessageTerms.message_id <= rows[0].id, MessageTerms.message_id >= rows[-1].id)
        indexed.update(
            connection.scalars(
                sa.select(MessageTerms.message_id).where(MessageTerms.user_id == user_id, *span)
            )
        )
    ids: list[str] = []
    size_bytes = 0
    for id_, message_bytes in rows:
        if id_ in indexed:
            continue
        size_bytes += message_bytes
        if ids and (len(ids) == MESSAGES_AT_ONCE or size_bytes > BYTES_AT_ONCE):
            return Batch(ids, id_)
        ids.append(id_)
    if len(rows) < LOOKED_AT_ONCE or UUID(rows[-1].id).int == 0:
        return Batch(ids, None)
    return Batch(ids, str(UUID(int=UUID(rows[-1].id).int - 1)))


def _lock_messages(connection: sa.Connection, user_id: str, ids: list[str]) -> list[IndexedMessage]:
    if not ids:
        return []
    sql = _CONTENTS + (_LOCK_CONTENTS if is_postgres(connection) else "")
    query = sa.text(sql).bindparams(
        sa.bindparam("owner", type_=Id()), sa.bindparam("ids", type_=Id(), expanding=True)
    )
    rows = connection.execute(query, {"owner": user_id, "ids": ids}).all()
    texts = texts_of(connection, user_id=user_id, message_ids=ids)
    return [
        (str(row[0]), str(row[1]), words_with_documents(row[2], texts.get(str(row[0]), []))) for row in rows
    ]
