"""What is measured on a filled database: searches of each kind, and the cost of the index for writes."""

import sqlalchemy as sa

from bench.client import Account, TimedClient
from bench.figures import percentile
from bench.search.corpus import PER_CONVERSATION, entries
from bench.search.fill import halfway
from bench.search.filled import Filled
from bench.search.kinds import Kind, kinds
from bench.servers import Gunicorn
from bench.suite import Report, Row, Target, progress

LEAST_REQUESTS = 20  # of a kind in one round
APPENDED = 200

_SIZES = {
    "postgres": {
        "words and their positions": "pg_table_size('message_terms')",
        "primary key": "pg_relation_size('pk_message_terms')",
        "full-text index": "pg_relation_size('ix_message_terms_terms')",
        "messages": "pg_total_relation_size('messages')",
    },
    "sqlite": {
        "words and their positions": "message_terms",
        "primary key": "sqlite_autoindex_message_terms_1, uq_message_terms_number",
        "full-text index": "message_index_data, message_index_idx, message_index_docsize",
        "messages": "messages, sqlite_autoindex_messages_1, sqlite_autoindex_messages_2, ix_messages_path",
    },
}


def measure_searches(filled: Filled, service: Gunicorn, rounds: int, report: Report) -> list[Row]:
    """Every kind in each round, and once before: then the database's pages are not in memory yet."""
    client = TimedClient(Account(service.port, filled.credentials), service.port)
    measured = kinds(*halfway(filled.size))
    times_ms: dict[str, list[list[float]]] = {kind.name: [] for kind in measured}
    found = dict.fromkeys(times_ms, 0)
    for number in range(rounds + 1):
        for kind in measured:
            progress(f"{filled.name}, {f'round {number}' if number else 'first time'}: {kind.name}")
            taken = []
            for path in kind.paths * -(-LEAST_REQUESTS // len(kind.paths)):
                took_ms, messages = client.call("GET", path)
                taken.append(took_ms)
                found[kind.name] += len(messages)
            times_ms[kind.name].append(taken)
    report.measurements[f"{filled.name}: searches"] = [times_ms]
    return [_search_row(filled.name, kind, times_ms[kind.name], found[kind.name]) for kind in measured]


def _search_row(database: str, kind: Kind, times_ms: list[list[float]], found: int) -> Row:
    """`found` is how many messages all answers had."""
    first, later = times_ms[0], [took for taken in times_ms[1:] for took in taken]
    p95 = percentile(later, 0.95)
    cells = {
        "database": database,
        "kind": kind.name,
        "first time p95": f"{percentile(first, 0.95):.1f}",
        "p50": f"{percentile(later, 0.5):.1f}",
        "p95": f"{p95:.1f}",
        "max": f"{max(later):.1f}",
        "found": f"{found / (len(first) + len(later)):.1f}",
    }
    return Row(f"{kind.name} on {database}", cells, Target((p95,), (kind.limit_ms,)))


def measure_writes(filled: Filled, service: Gunicorn) -> list[Row]:
    """Append alternately for a new user and for the one with all the messages; delete a conversation of that one.

    All of it is deleted in the end, so the database stays as it was filled.
    """
    new = TimedClient(Account(service.port), service.port)
    old = TimedClient(Account(service.port, filled.credentials), service.port)
    conversations = {client: client.account.create_conversation("Appended") for client in (new, old)}
    times_ms: dict[TimedClient, list[float]] = {new: [], old: []}
    contents = [entry.content for entry in entries(PER_CONVERSATION)][:PER_CONVERSATION]
    progress(f"{filled.name}: appending")
    for number, content in enumerate(contents):
        for client in (new, old) if number < APPENDED else (old,):
            body = {"conversation_id": conversations[client], "role": "user", "content": content}
            took_ms, _message = client.call("POST", "/chat/messages", body)
            times_ms[client].append(took_ms)
    progress(f"{filled.name}: deleting")
    deleted_ms, _ = old.call("DELETE", f"/chat/conversations/{conversations[old]}")
    new.call("DELETE", f"/chat/conversations/{conversations[new]}")
    return [
        _write_row(filled.name, "append a message", 0, times_ms[new]),
        _write_row(filled.name, "append a message", filled.size, times_ms[old][:APPENDED]),
        _write_row(filled.name, f"delete a conversation of {PER_CONVERSATION}", filled.size, [deleted_ms]),
    ]


def _write_row(database: str, what: str, indexed: int, times_ms: list[float]) -> Row:
    cells = {
        "database": database,
        "what": what,
        "messages indexed": f"{indexed:,}",
        "p50": f"{percentile(times_ms, 0.5):.1f}",
        "p95": f"{percentile(times_ms, 0.95):.1f}",
    }
    return Row(f"{what} on {database}", cells)


def measure_sizes(filled: Filled) -> list[Row]:
    """Bytes for each message of the tables and indexes of search, and of the messages themselves."""
    engine = sa.create_engine(filled.database.url)
    with engine.connect() as connection:
        sizes = {
            what: _size_of(connection, filled.name, where) for what, where in _SIZES[filled.name].items()
        }
    engine.dispose()
    return [
        Row(what, {"database": filled.name, "what": what, "bytes": f"{size / (2 * filled.size):,.0f}"})
        for what, size in sizes.items()
    ]


def _size_of(connection: sa.Connection, database_name: str, where: str) -> int:
    if database_name == "postgres":
        return connection.scalar(sa.text(f"SELECT {where}")) or 0
    one = sa.text("SELECT sum(pgsize) FROM dbstat WHERE name = :name AND aggregate = TRUE")
    return sum(connection.scalar(one, {"name": name}) or 0 for name in where.split(", "))
