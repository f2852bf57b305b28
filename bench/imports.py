"""Imports: how many messages a second one client's file brings in, and what each of them costs."""

import http.client
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import accumulate
from statistics import median

from bench.attachments import Highest
from bench.client import Account
from bench.processes import LOAD_CORE, SERVER_CORE, cpu_between, cpu_seconds, family, pin
from bench.search.corpus import word_of
from bench.search.fill import id_at
from bench.servers import HOST, Database, Gunicorn
from bench.suite import Report, Row, Target

MESSAGES, QUICK_MESSAGES = 100_000, 5_000
PER_CONVERSATION = 100
WORDS = 20_000  # as frequent as Zipf's law has it
CONTENT_CHARACTERS = 611
LEAST_PER_S = {"sqlite": 10_000, "postgres": 8_000}
_START_MS = 1_700_000_000_000
_TIME = "2023-11-14T22:13:20.000000Z"


@dataclass(frozen=True)
class Imported:
    """One import."""

    cpu_us: float  # of the service, for each message
    database_us: float
    seconds: float
    growth_mib: float  # of the worker, at its highest


def measure_imports(
    service: Gunicorn, database: Database, rounds: int, *, quick: bool, report: Report
) -> list[Row]:
    """The row of one database. Each round is a file of its own, of another account."""
    count = QUICK_MESSAGES if quick else MESSAGES
    with _on_both_cores(service, database):
        measured = [_import(service, database, count, number) for number in range(rounds)]
    name = f"an import on {database.name}"
    report.measurements[name] = [asdict(each) for each in measured]
    per_s = median(count / each.seconds for each in measured)
    cells = {
        "import": name,
        "messages": f"{count:,}",
        "CPU us": f"{median(each.cpu_us for each in measured):.0f}",
        "DB CPU us": f"{median(each.database_us for each in measured):.0f}",
        "messages/s": f"{per_s:,.0f}",
        "memory MiB": f"+{max(each.growth_mib for each in measured):.1f}",
    }
    return [Row(name, cells, Target((LEAST_PER_S[database.name] / per_s,), (1.0,)))]


@contextmanager
def _on_both_cores(service: Gunicorn, database: Database) -> Iterator[None]:
    """The time that an import takes is that of a machine with two cores, not of one core for each of the two."""
    its, databases = (
        family(service.process.pid),
        [each for root in database.server_pids for each in family(root)],
    )
    pin([*its, *databases], SERVER_CORE, LOAD_CORE)
    try:
        yield
    finally:
        pin(its, SERVER_CORE)
        pin(databases, LOAD_CORE)


def _import(service: Gunicorn, database: Database, count: int, number: int) -> Imported:
    token = Account(service.port).token
    body = _file(count, number)
    connection = http.client.HTTPConnection(HOST, service.port, timeout=600)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
    pids = [service.process.pid]
    with Highest(service.worker) as memory:
        before, database_before = cpu_seconds(pids), cpu_seconds(database.server_pids)
        began = time.monotonic()
        connection.request("POST", "/chat/import", body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        seconds = time.monotonic() - began
        cpu = cpu_between(before, cpu_seconds(pids))
        database_cpu = cpu_between(database_before, cpu_seconds(database.server_pids))
    connection.close()
    if response.status != 200 or answer["messages"]["imported"] != count:
        raise ValueError(f"The import was answered with {response.status}: {str(answer)[:200]}")
    return Imported(cpu * 1e6 / count, database_cpu * 1e6 / count, seconds, memory.growth_mib)


def _file(count: int, number: int) -> bytes:
    """An export of this service with so many messages, of ids of its own."""
    chance = random.Random(number)
    words = [word_of(rank) for rank in range(WORDS)]
    stream = chance.choices(
        words, cum_weights=list(accumulate(1 / (rank + 2.7) for rank in range(WORDS))), k=200_000
    )
    lines: list[dict[str, object]] = [{"type": "export", "version": 1}]
    at = _START_MS + number * 10 * count
    conversation_count = 0
    for begin in range(0, count, PER_CONVERSATION):
        length = min(PER_CONVERSATION, count - begin)
        ids = [id_at(at + begin + place, 2 * (begin + place)) for place in range(length)]
        conversation_id = id_at(at + begin, 2 * begin + 1)
        conversation_count += 1
        shared = {"created_at": _TIME, "conversation_id": conversation_id, "status": "completed"}
        conversation = {"title": "Imported", "active_leaf_id": ids[-1], "last_position": length}
        lines.append(
            {
                "type": "conversation",
                "id": conversation_id,
                **conversation,
                "created_at": _TIME,
                "updated_at": _TIME,
            }
        )
        for place, id_ in enumerate(ids):
            said = {"role": ("user", "assistant")[place % 2], "content": _text(stream, chance)}
            parent = ids[place - 1] if place else None
            lines.append(
                {"type": "message", "id": id_, "parent_id": parent, "position": place + 1, **said, **shared}
            )
    lines.append({"type": "end", "conversations": conversation_count, "messages": count})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _text(stream: list[str], chance: random.Random) -> str:
    start = chance.randrange(len(stream) - CONTENT_CHARACTERS)
    return " ".join(stream[start : start + CONTENT_CHARACTERS // 2])[:CONTENT_CHARACTERS]
