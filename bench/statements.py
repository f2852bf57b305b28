"""Counts the statements that a request sends to Postgres: each one is a line of the server's own log."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from bench.databases import Postgres
from bench.endpoints import ENDPOINTS, Endpoint
from bench.load_client import Connection
from bench.servers import HOST
from bench.setting import Setting

LIMIT = 1
TOLERANCE = 0.1
"""A worker reads the list of ended logins twice a second, whatever the load: no request's doing."""

REQUESTS = 400
STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]*): ")
"""A statement in the log, sent as text or prepared; parsing and binding write no such line."""


@dataclass(frozen=True)
class StatementsRow:
    """How many statements a request to an endpoint sends, BEGIN and COMMIT included."""

    request: str
    count: float

    @property
    def met(self) -> bool:
        """Whether it is one."""
        return self.count <= LIMIT + TOLERANCE

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"statements of {self.request}"


def count_statements(setting: Setting) -> list[StatementsRow]:
    """One row for each hot endpoint; nothing on another database than Postgres."""
    if not isinstance(setting.database, Postgres):
        return []
    with everything_logged(setting.database):
        return [_count(setting, setting.database, endpoint) for endpoint in ENDPOINTS]


@contextmanager
def everything_logged(database: Postgres) -> Iterator[None]:
    """Have the server log each statement before it runs it. Its sessions follow with their next statement."""
    with psycopg.connect(database.url.replace("+psycopg", ""), autocommit=True) as admin:
        for change in ("SET log_statement = 'all'", "RESET log_statement"):
            admin.execute(f"ALTER SYSTEM {change}")
            admin.execute("SELECT pg_reload_conf()")
            time.sleep(0.5)  # the signal needs a moment to reach every session
            if change.startswith("SET"):
                yield


def _count(setting: Setting, database: Postgres, endpoint: Endpoint) -> StatementsRow:
    requests = [request.encode("latin-1") for request in endpoint.requests(setting.stage)]
    connection = Connection((HOST, setting.service.port), requests[0])
    start = database.log.stat().st_size
    for number in range(REQUESTS):
        connection.request = requests[number % len(requests)]
        _send(connection)
    with database.log.open(encoding="utf-8", errors="replace") as log:
        log.seek(start)
        return StatementsRow(endpoint.title, len(STATEMENT.findall(log.read())) / REQUESTS)


def _send(connection: Connection) -> None:
    """One request and its whole answer."""
    connection.send()
    while (answer := connection.receive()) is None:
        pass
    if not answer[0].startswith(b"2"):
        raise RuntimeError(f"{answer[0].decode()} while statements were counted")
    if connection.must_close:
        connection.connect()
