"""Fills a conversation by SQL with very many copies of one message, ids and positions of their own."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from bench.databases import Database
from bench.endpoints import MESSAGE_CONTENT, Stage
from chat_api.conversations.models import Conversation
from chat_api.database.columns import new_id
from chat_api.messages.models import Message

BATCH = 10_000
SETTLING = {
    # What autovacuum and the checkpointer would do minutes later, in the middle of the measurement.
    "postgresql": ("VACUUM ANALYZE messages", "CHECKPOINT"),
    "sqlite": ("PRAGMA wal_checkpoint(TRUNCATE)",),
}


def fill_conversation(database: Database, stage: Stage, size: int, progress: Callable[[str], None]) -> str:
    """Make a conversation of `size` messages; its id. The first comes over HTTP, the rest are its copies."""
    conversation_id = stage.account.create_conversation(f"A conversation of {size} messages")
    first = stage.account.append_message(conversation_id, MESSAGE_CONTENT)
    engine = sa.create_engine(database.url)
    with engine.connect() as connection:
        found = connection.execute(sa.select(Message.__table__).where(Message.id == first["id"]))
        model = found.mappings().one()
    leaf_id: str = first["id"]
    for start in range(2, size + 1, BATCH):
        progress(f"filling a conversation on {database.name}: {start - 1:,} of {size:,} messages")
        copies = list(_copies(model, leaf_id, start, min(start + BATCH, size + 1)))
        leaf_id = copies[-1]["id"]
        with engine.begin() as connection:
            connection.execute(sa.insert(Message), copies)
    with engine.begin() as connection:
        counted = sa.update(Conversation).where(Conversation.id == conversation_id)
        connection.execute(counted.values(message_count=size, last_position=size, active_leaf_id=leaf_id))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in SETTLING[engine.dialect.name]:
            connection.exec_driver_sql(statement)
    engine.dispose()
    return conversation_id


def _copies(model: Mapping[Any, Any], parent_id: str, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """The messages at the positions from `start` up to, not including, `stop`; each answers the one in front of it."""
    for position in range(start, stop):
        message_id = new_id()
        yield {**model, "id": message_id, "parent_id": parent_id, "position": position}
        parent_id = message_id
