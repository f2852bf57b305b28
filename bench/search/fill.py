"""Loads the messages into a database in bulk, with the words that the service itself would have written."""

import sqlite3
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import psycopg

from bench.search.corpus import PER_CONVERSATION, entries, time_of
from bench.suite import progress
from chat_api.database.columns import TIME_FORMAT
from chat_api.search_index.lexemes import SAMPLED, number_of, plain_text, vector_text
from chat_api.search_index.tokenizer import words

BATCH = 20_000
MESSAGES = ("user_id", "id", "conversation_id", "parent_id", "position", "role", "content", "size_bytes",
            "attachment_count", "created_at", "status", "on_path")  # fmt: skip
CONVERSATIONS = ("user_id", "id", "title", "message_count", "last_position", "active_leaf_id", "archived", "pinned",
                 "updated_at", "created_at")  # fmt: skip


def id_at(time_ms: int, number: int) -> str:
    """A UUIDv7 of this time; random digits that are the number, spread."""
    spread = number * 0x9E3779B97F4A7C15 & (1 << 74) - 1
    return str(
        uuid.UUID(int=time_ms << 80 | 7 << 76 | (spread >> 62) << 64 | 2 << 62 | spread & (1 << 62) - 1)
    )


def halfway(size: int) -> tuple[str, str]:
    """The ids of the first user's message in the middle, and of its conversation."""
    number = size // 2
    first = number - number % PER_CONVERSATION
    return id_at(time_of(number, size), number * 4 + 2), id_at(time_of(first, size), first * 2)


def fill(url: str, users: list[str], size: int) -> None:
    """Load `size` messages for each of the two users, and bring the database to rest."""
    if url.startswith("sqlite"):
        _fill_sqlite(url.removeprefix("sqlite:///"), users, size)
    else:
        _fill_postgres(url.replace("+psycopg", ""), users, size)


def _rows(users: list[str], size: int) -> Iterator[dict[str, Any]]:
    """The row of each message."""
    conversations, leaves = [""] * 2, [""] * 2
    for entry in entries(size):
        user, position = entry.user, entry.number % PER_CONVERSATION + 1
        if position == 1:
            conversations[user] = id_at(entry.time_ms, entry.number * 2 + user)
        message_id = id_at(entry.time_ms, entry.number * 4 + user + 2)
        parent = leaves[user] if position > 1 else None
        leaves[user] = message_id
        if user == 0 and entry.number % BATCH == 0:
            progress(f"filling: {entry.number:,} of {size:,} messages of each user")
        moment = datetime.fromtimestamp(entry.time_ms / 1000, UTC).strftime(TIME_FORMAT)
        role = ("user", "assistant")[entry.number % 2]
        values = (users[user], message_id, conversations[user], parent, position, role, entry.content,
                  len(entry.content), 0, moment, "completed", True)  # fmt: skip
        yield dict(zip(MESSAGES, values, strict=True))


def _conversation(row: dict[str, Any]) -> tuple[Any, ...]:
    """The conversation that begins with a message, as if full."""
    return (row["user_id"], row["conversation_id"], "A conversation", PER_CONVERSATION, PER_CONVERSATION, None, False,
            False, row["created_at"], row["created_at"])  # fmt: skip


def _fill_postgres(url: str, users: list[str], size: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SET session_replication_role = replica")  # no foreign key is looked at
        [definition] = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_message_terms_terms'"
        ).fetchone() or [""]
        connection.execute("DROP INDEX ix_message_terms_terms")
        batch: list[dict[str, Any]] = []
        for row in _rows(users, size):
            batch.append(row)
            if len(batch) == BATCH:
                _copy(connection, batch)
                batch = []
        _copy(connection, batch)
        progress("indexing on postgres")
        connection.execute("SET LOCAL maintenance_work_mem = '1GB'")
        connection.execute(definition.encode())
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            progress(f"{statement} on postgres")
            connection.execute(statement.encode())


def _copy(connection: psycopg.Connection[Any], batch: list[dict[str, Any]]) -> None:
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY conversations ({', '.join(CONVERSATIONS)}) FROM STDIN".encode()) as copy:
            for row in batch:
                if row["position"] == 1:
                    copy.write_row(_conversation(row))
        with cursor.copy(f"COPY messages ({', '.join(MESSAGES)}) FROM STDIN".encode()) as copy:
            for row in batch:
                copy.write_row(tuple(row.values()))
        with cursor.copy("COPY message_terms (user_id, message_id, terms) FROM STDIN") as copy:
            for row in batch:
                copy.write_row((row["user_id"], row["id"], _vector(row)))


def _vector(row: dict[str, Any]) -> str:
    as_sample = crc32(row["id"].encode()) % SAMPLED == 0  # the same ones in each run
    return vector_text(
        row["user_id"], row["conversation_id"], row["id"], words(row["content"]), as_sample=as_sample
    )


def _fill_sqlite(path: str, users: list[str], size: int) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("synchronous = OFF", "cache_size = -400000", "foreign_keys = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    [[trigger]] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'message_terms_inserted'")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DROP TRIGGER message_terms_inserted")
    insert = {
        table: f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        for table, columns in (
            ("messages", MESSAGES),
            ("conversations", CONVERSATIONS),
            ("message_terms", ("user_id", "message_id", "number", "terms")),
        )
    }
    used: set[int] = set()
    for row in _rows(users, size):
        if row["position"] == 1:
            connection.execute(insert["conversations"], _conversation(row))
        connection.execute(insert["messages"], tuple(row.values()))
        number = number_of(row["id"])
        while number in used:
            number += 1
        used.add(number)
        terms = plain_text(row["conversation_id"], words(row["content"]))
        connection.execute(insert["message_terms"], (row["user_id"], row["id"], number, terms))
    progress("indexing on sqlite")
    connection.execute("INSERT INTO message_index (message_index) VALUES ('rebuild')")
    connection.execute(trigger)
    connection.execute("COMMIT")
    progress("ANALYZE on sqlite")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
