"""Whether requests cost the same however much is stored: beside many conversations of one's own, and many users.

On each database there are two services: one with few users, and one with many, of whom some have very many
conversations. Each conversation has a message; they are loaded in bulk.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from bench.endpoints import ENDPOINTS, Endpoint, Fixture
from bench.load import Series, Subject, measure_rounds
from bench.search.fill import CONVERSATIONS, MESSAGES, id_at
from bench.servers import Database, Gunicorn, running_database, serve_app
from bench.suite import Report, Row, Target, progress
from chat_api.database.columns import TIME_FORMAT

FEW_USERS, MANY_USERS = 1_000, 100_000
OWN = (10, 10_000, 1_000_000)  # conversations of a user, beside those that the requests refer to
QUICK_MANY_USERS, QUICK_OWN = 10_000, (10, 1_000, 10_000)
MOST = 1.25
IDLE_S = 60
USERS = ("id", "email", "role", "created_at")
_START_MS = 1_700_000_000_000
_STEP_MS = 60_000
_SETTINGS = {
    "MAX_CONVERSATIONS_PER_USER": str(10**7),
    "MAX_MESSAGES_PER_USER": str(10**9),
}


def measure_growth(
    databases: Sequence[str], rounds: int, seconds: float, *, quick: bool, report: Report, folder: Path
) -> None:
    """Fill and measure one database after the other."""
    rows = report.tables.setdefault("The same requests beside more data (medians)", [])
    for name in databases:
        with ExitStack() as stack:
            start = partial(_start, stack, name, folder / "growth")
            few, many = start("few"), start("many")
            many_users, own = (QUICK_MANY_USERS, QUICK_OWN) if quick else (MANY_USERS, OWN)
            small = _filled(few, FEW_USERS, OWN[:1])
            large = _filled(many, many_users, own)
            subjects = _subjects(f"{name}, {FEW_USERS:,} users", few, small) + _subjects(
                f"{name}, {many_users:,} users", many, large
            )
            series = measure_rounds(subjects, rounds, seconds, report)
            for endpoint in ENDPOINTS:
                base = series[f"{name}, {many_users:,} users, {own[0]:,} of one: {endpoint.name}"]
                for count in own[1:]:
                    grown = series[f"{name}, {many_users:,} users, {count:,} of one: {endpoint.name}"]
                    rows.append(
                        _row(name, endpoint, f"{own[0]:,} to {count:,} conversations of one", base, grown)
                    )
                fewer = series[f"{name}, {FEW_USERS:,} users, {own[0]:,} of one: {endpoint.name}"]
                rows.append(_row(name, endpoint, f"{FEW_USERS:,} to {many_users:,} users", fewer, base))
            if name == "postgres":
                idle_s = 10 if quick else IDLE_S
                idle = report.tables.setdefault("Statements of an idle worker", [])
                idle.append(_idle_row(many[0], idle_s))


Deployment = tuple[Database, Gunicorn]


def _start(stack: ExitStack, name: str, folder: Path, size: str) -> Deployment:
    database = stack.enter_context(running_database(name, folder / f"{name}-{size}"))
    return database, stack.enter_context(serve_app(database, **_SETTINGS))


def _filled(deployment: Deployment, users: int, own: Sequence[int]) -> dict[int, Fixture]:
    """By how many conversations they have, the users that are measured."""
    database, service = deployment
    fixtures = {count: Fixture(service.port) for count in own}
    owners = {fixture.account.user_id: count for count, fixture in fixtures.items()}
    others = [id_at(_START_MS + number, number) for number in range(users)]
    tables: list[tuple[str, Sequence[str], Callable[[], Iterator[tuple[Any, ...]]]]] = [
        ("users", USERS, lambda: ((id_, f"{id_}@example.com", "user", _moment(0)) for id_ in others)),
        ("conversations", CONVERSATIONS, lambda: _conversations({**dict.fromkeys(others, 1), **owners})),
        ("messages", MESSAGES, lambda: _messages({**dict.fromkeys(others, 1), **owners})),
    ]
    load = _load_into_sqlite if database.name == "sqlite" else _load_into_postgres
    load(database.url, tables)
    return fixtures


def _subjects(name: str, deployment: Deployment, fixtures: dict[int, Fixture]) -> list[Subject]:
    database, service = deployment
    return [
        Subject(
            f"{name}, {count:,} of one: {endpoint.name}",
            service,
            partial(endpoint.requests, fixture),
            database.server_pids,
        )
        for endpoint in ENDPOINTS
        for count, fixture in fixtures.items()
    ]


def _row(database: str, endpoint: Endpoint, what: str, base: Series, grown: Series) -> Row:
    cpu, p50 = grown.ratio(base, "cpu_us"), grown.ratio(base, "p50_ms")
    cells = {
        "database": database,
        "request": endpoint.title,
        "from and to": what,
        "CPU us": f"{base.median('cpu_us'):.0f} to {grown.median('cpu_us'):.0f}",
        "p50 ms": f"{base.median('p50_ms'):.2f} to {grown.median('p50_ms'):.2f}",
        "failed": str(base.failed + grown.failed),
        "CPU ratio (min-max)": str(cpu),
        "p50 ratio (min-max)": str(p50),
    }
    target = Target((cpu.median, p50.median), (MOST, MOST))
    return Row(f"{endpoint.title} on {database}, {what}", cells, target, base.failed + grown.failed)


def _idle_row(database: Database, seconds: float) -> Row:
    """What a worker without requests sends, by Postgres' count of transactions; each of its statements is one."""
    with psycopg.connect(database.url.replace("+psycopg", ""), autocommit=True) as connection:

        def count() -> int:
            row = connection.execute(
                "SELECT pg_stat_clear_snapshot(), xact_commit FROM pg_stat_database WHERE datname = current_database()"
            ).fetchone()
            return int(row[1]) if row else 0

        progress("an idle worker")
        time.sleep(15)  # sessions tell what they did up to ten seconds later
        before = count()
        time.sleep(seconds)
        per_s = (count() - before - 1) / seconds
    return Row("an idle worker", {"statements per second": f"{per_s:.2f}"})


# -- filling --------------------------------------------------------------------------------------------------


def _moment(number: int) -> str:
    return datetime.fromtimestamp((_START_MS + number) / 1000, UTC).strftime(TIME_FORMAT)


def _entries(owners: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """User, number over all and time in ms after the start; those of a user are spread over years."""
    number = 0
    for user_id, count in owners.items():
        for index in range(count):
            yield user_id, number, index * _STEP_MS
            number += 1


def _conversations(owners: dict[str, int]) -> Iterator[tuple[Any, ...]]:
    for user_id, number, at_ms in _entries(owners):
        moment = _moment(at_ms)
        id_ = id_at(_START_MS + at_ms, number * 2)
        yield (
            user_id,
            id_,
            f"Conversation {number}",
            1,
            1,
            id_at(_START_MS + at_ms, number * 2 + 1),
            False,
            False,
            moment,
            moment,
        )


def _messages(owners: dict[str, int]) -> Iterator[tuple[Any, ...]]:
    for user_id, number, at_ms in _entries(owners):
        conversation, id_ = (id_at(_START_MS + at_ms, number * 2 + more) for more in (0, 1))
        yield (
            user_id,
            id_,
            conversation,
            None,
            1,
            "user",
            "Hello there",
            11,
            0,
            _moment(at_ms),
            "completed",
            True,
        )


Tables = Iterable[tuple[str, Sequence[str], Callable[[], Iterator[tuple[Any, ...]]]]]


def _load_into_postgres(url: str, tables: Tables) -> None:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("SET session_replication_role = replica")  # no foreign key is looked at
        for table, columns, rows in tables:
            progress(f"filling {table} on postgres")
            with connection.cursor().copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()) as copy:
                for row in rows():
                    copy.write_row(row)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            progress(f"{statement} on postgres")
            connection.execute(statement.encode())


def _load_into_sqlite(url: str, tables: Tables) -> None:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=60)
    for pragma in ("synchronous = OFF", "cache_size = -400000", "foreign_keys = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    for table, columns, rows in tables:
        progress(f"filling {table} on sqlite")
        insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(insert, rows())
        connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
