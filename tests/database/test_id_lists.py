"""Lists of ids as one parameter: what is listed is found by its key, however much else the user has."""

import re
import sqlite3
from collections.abc import Iterator

import pytest
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import UnsupportedCompilationError

from chat_api.database.statements import Compiled
from tests.conftest import migrated_sqlite
from tests.test_routing import STATEMENTS

# all rows of the user, or of a conversation, each looked for in the list
READS_ALL = re.compile(r"SEARCH \w+ USING [A-Z ]*INDEX \w+ \(user_id=\?( AND conversation_id=\?)?\)")


def listing_statements() -> Iterator[tuple[str, str]]:
    """The names and the SQL of the statements with a list."""
    for name, statement in STATEMENTS.items():
        try:
            sql = Compiled(statement.construct(False), SQLiteDialect_pysqlite()).sql
        except UnsupportedCompilationError:
            continue  # one for Postgres alone
        if "json_each" in sql:
            yield name, sql


LISTED = dict(listing_statements())


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A migrated database without statistics, as SQLite's are."""
    file = tmp_path_factory.mktemp("plans") / "chat.db"
    file.write_bytes(migrated_sqlite())
    connection = sqlite3.connect(file)
    yield connection
    connection.close()


@pytest.mark.parametrize("name", sorted(LISTED))
def test_sqlite_reads_what_is_listed_and_nothing_else(database: sqlite3.Connection, name: str) -> None:
    sql = LISTED[name]
    plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?"))]
    assert not [line for line in plan if READS_ALL.match(line)], (
        f"{name}: use `select_listed` of database/id_lists.py.\n" + "\n".join(plan)
    )
