"""What is measured on a filled database: searches of each kind, and what the index costs whoever writes."""

from dataclasses import dataclass

import sqlalchemy as sa

from bench.account import Account
from bench.search.asking import Asker, Times
from bench.search.corpus import PER_CONVERSATION, entries
from bench.search.fill import Progress, halfway
from bench.search.filled import Filled
from bench.search.questions import Kind, kinds
from bench.servers import Gunicorn

FEWEST = 20  # requests of a kind in one round
APPENDED = 200

_SIZES = {
    "postgres": {
        "words and their place": "pg_table_size('message_terms')",
        "primary key": "pg_relation_size('pk_message_terms')",
        "full-text index": "pg_relation_size('ix_message_terms_terms')",
        "messages": "pg_total_relation_size('messages')",
    },
    "sqlite": {
        "words and their place": "message_terms",
        "primary key": "sqlite_autoindex_message_terms_1, uq_message_terms_number",
        "full-text index": "message_index_data, message_index_idx, message_index_docsize",
        "messages": "messages, sqlite_autoindex_messages_1, sqlite_autoindex_messages_2, ix_messages_path",
    },
}


@dataclass(frozen=True)
class SearchRow:
    """Searches of one kind; `first` are those that found the database's pages not in memory yet.

    `found` is how many messages an answer had, on average.
    """

    database: str
    kind: Kind
    first: Times
    times: Times
    found: float

    @property
    def met(self) -> bool:
        """Whether it is as quick as it should be."""
        return self.times.p95 <= self.kind.limit_ms


@dataclass(frozen=True)
class WriteRow:
    """Writing, where so many messages of the user are indexed already."""

    database: str
    what: str
    messages: int
    times: Times


@dataclass(frozen=True)
class SizeRow:
    """Bytes for each message."""

    database: str
    what: str
    size_bytes: float


def measure_searches(database: Filled, service: Gunicorn, rounds: int, progress: Progress) -> list[SearchRow]:
    """Ask everything, kind after kind, and all that once more for each round: the first time doesn't count."""
    asker = Asker(Account(service.port, database.credentials), service.port)
    asked = kinds(*halfway(database.size))
    taken: dict[str, list[float]] = {kind.name: [] for kind in asked}
    found = dict.fromkeys(taken, 0)
    for number in range(rounds + 1):
        for kind in asked:
            progress(f"{database.name}, {f'round {number}' if number else 'first time'}: {kind.name}")
            for path in kind.paths * -(-FEWEST // len(kind.paths)):
                took_ms, messages = asker.ask("GET", path)
                taken[kind.name].append(took_ms)
                found[kind.name] += len(messages)
    return [_row(database.name, kind, taken[kind.name], found[kind.name], rounds) for kind in asked]


def _row(database_name: str, kind: Kind, taken: list[float], found: int, rounds: int) -> SearchRow:
    at_once = len(taken) // (rounds + 1)
    first, times = Times(tuple(taken[:at_once])), Times(tuple(taken[at_once:]))
    return SearchRow(database_name, kind, first, times, found / len(taken))


def measure_writes(database: Filled, service: Gunicorn, progress: Progress) -> list[WriteRow]:
    """Append by turns for somebody new and for the user with all the messages; delete a conversation of that one.

    All of it is deleted in the end, so the database stays as it was filled.
    """
    users = {
        0: Asker(Account(service.port), service.port),
        database.size: Asker(Account(service.port, database.credentials), service.port),
    }
    places = {size: user.account.create_conversation("Appended") for size, user in users.items()}
    taken: dict[int, list[float]] = {size: [] for size in users}
    progress(f"{database.name}: appending")
    contents = [entry.content for entry in entries(APPENDED)]
    for content in contents[:APPENDED]:
        for size, user in users.items():
            body = {"conversation_id": places[size], "role": "user", "content": content}
            taken[size].append(user.ask("POST", "/chat/messages", body)[0])
    rows = [
        WriteRow(database.name, "append a message", size, Times(tuple(times)))
        for size, times in taken.items()
    ]
    place, user = places[database.size], users[database.size]
    for content in (contents * 2)[: PER_CONVERSATION - APPENDED]:
        user.ask("POST", "/chat/messages", {"conversation_id": place, "role": "user", "content": content})
    progress(f"{database.name}: deleting")
    deleted = Times((user.ask("DELETE", f"/chat/conversations/{place}")[0],))
    users[0].ask("DELETE", f"/chat/conversations/{places[0]}")
    what = f"delete a conversation of {PER_CONVERSATION}"
    return [*rows, WriteRow(database.name, what, database.size, deleted)]


def measure_sizes(database: Filled) -> list[SizeRow]:
    """What the tables and indexes of search take, and beside them the messages themselves."""
    engine = sa.create_engine(database.url)
    with engine.connect() as connection:
        sizes = {
            what: _size_of(connection, database.name, where) for what, where in _SIZES[database.name].items()
        }
    engine.dispose()
    return [SizeRow(database.name, what, size / (2 * database.size)) for what, size in sizes.items()]


def _size_of(connection: sa.Connection, database_name: str, where: str) -> int:
    if database_name == "postgres":
        return connection.scalar(sa.text(f"SELECT {where}")) or 0
    one = sa.text("SELECT sum(pgsize) FROM dbstat WHERE name = :name AND aggregate = TRUE")
    return sum(connection.scalar(one, {"name": name}) or 0 for name in where.split(", "))
