"""Writers of SQLite that are committed together: each has what it was told, whatever happens to the others."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue

import pytest

from chat_api.database import group_commit
from chat_api.database.drivers import Connection, CursorConnection
from chat_api.database.group_commit import GroupCommit
from chat_api.errors import NotFound, Unavailable

THREADS, EACH = 8, 25


class Database:
    """A file with a table, its writers, and how often they have committed."""

    def __init__(self, path: Path, wait_s: float = 10) -> None:
        self.path, self.commits = path, 0
        self._idle: SimpleQueue[Connection] = SimpleQueue()
        self.writers = GroupCommit(
            take=self._take,
            give_back=self._idle.put,
            discard=lambda connection: connection.close(),
            wait_s=wait_s,
        )
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(
                "PRAGMA journal_mode = WAL; CREATE TABLE parents (id PRIMARY KEY);"
                "CREATE TABLE rows (id PRIMARY KEY, parent REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
            )

    def _take(self) -> Connection:
        if not self._idle.empty():
            return self._idle.get()
        driver = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        driver.execute("PRAGMA foreign_keys = ON")
        driver.set_trace_callback(self._note)
        return CursorConnection(driver)

    def _note(self, sql: str) -> None:
        self.commits += sql == "COMMIT"

    def write(self, row: str, then: Callable[[], None] = lambda: None, parent: str | None = None) -> None:
        with self.writers.transaction() as connection:
            connection.execute("INSERT INTO rows VALUES (?, ?)", (row, parent))
            then()

    def write_before_commit(self, row: str, then: Callable[[], None] = lambda: None) -> None:
        with self.writers.transaction():
            self.writers.run_before_commit("INSERT INTO rows VALUES (?, NULL)", (row,))
            then()

    def rows(self) -> set[str]:
        """What another process sees."""
        with closing(sqlite3.connect(self.path)) as connection:
            return {row[0] for row in connection.execute("SELECT id FROM rows")}

    def let_them_meet(self, *others: Callable[[], None]) -> Callable[[], None]:
        """What a writer does in its transaction: start others, and wait until they wait for it."""

        def meet() -> None:
            for number, other in enumerate(others, 1):
                self.pool.submit(other)
                while self.writers._waiting < number:
                    threading.Event().wait(0.001)

        self.pool = ThreadPoolExecutor(len(others) + 1)
        return meet


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "rows.db")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine threads take their time to meet."""
    monkeypatch.setattr(group_commit, "LONGEST_S", 30)


def refused(
    outcomes: dict[str, BaseException | None], name: str, act: Callable[[], None]
) -> Callable[[], None]:
    def run() -> None:
        try:
            act()
            outcomes[name] = None
        except BaseException as error:
            outcomes[name] = error

    return run


def test_what_returns_is_stored_and_many_share_a_commit(database: Database) -> None:
    missing: list[str] = []

    def work(thread: int) -> None:
        for number in range(EACH):
            row = f"{thread}-{number}"
            database.write(row)
            if row not in database.rows():
                missing.append(row)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    assert missing == []
    assert len(database.rows()) == THREADS * EACH
    assert database.commits < THREADS * EACH


@pytest.mark.usefixtures("patient")
def test_one_that_is_refused_undoes_its_own_work_only(database: Database) -> None:
    outcomes: dict[str, BaseException | None] = {}

    def refuse() -> None:
        raise NotFound("row")

    others = (
        refused(outcomes, "refused", lambda: database.write("refused", refuse)),
        refused(outcomes, "taken", lambda: database.write("first")),
        refused(outcomes, "last", lambda: database.write("last")),
    )
    database.write("first", database.let_them_meet(*others))
    database.pool.shutdown()
    assert database.rows() == {"first", "last"}
    assert isinstance(outcomes["refused"], NotFound)
    assert isinstance(outcomes["taken"], sqlite3.IntegrityError)
    assert outcomes["last"] is None
    assert database.commits == 1


@pytest.mark.usefixtures("patient")
def test_who_is_refused_for_what_another_has_written_can_read_that(database: Database) -> None:
    seen: list[set[str]] = []

    def repeat() -> None:
        with pytest.raises(sqlite3.IntegrityError):
            database.write("first")
        seen.append(database.rows())

    database.write("first", database.let_them_meet(repeat, lambda: database.write("last")))
    database.pool.shutdown()
    assert seen == [{"first", "last"}]


@pytest.mark.usefixtures("patient")
def test_what_is_left_until_the_commit_is_stored_with_it_or_undone_with_its_owner(database: Database) -> None:
    outcomes: dict[str, BaseException | None] = {}

    def fail() -> None:
        raise NotFound("row")

    database.write_before_commit(
        "first",
        database.let_them_meet(
            refused(outcomes, "second", lambda: database.write_before_commit("second", fail)),
            refused(outcomes, "third", lambda: database.write_before_commit("third")),
        ),
    )
    database.pool.shutdown()
    assert isinstance(outcomes["second"], NotFound)
    assert outcomes["third"] is None
    assert database.rows() == {"first", "third"}
    assert database.commits == 1


@pytest.mark.usefixtures("patient")
def test_where_what_was_left_fails_nobody_is_told_that_anything_is_stored(database: Database) -> None:
    outcomes: dict[str, BaseException | None] = {}
    meet = database.let_them_meet(
        refused(outcomes, "second", lambda: database.write_before_commit("first")),
    )
    with pytest.raises(sqlite3.IntegrityError):
        database.write_before_commit("first", meet)
    database.pool.shutdown()
    assert isinstance(outcomes["second"], sqlite3.IntegrityError)
    assert database.rows() == set()


@pytest.mark.usefixtures("patient")
def test_where_the_commit_fails_nobody_is_told_that_anything_is_stored(database: Database) -> None:
    outcomes: dict[str, BaseException | None] = {}
    orphan = refused(outcomes, "orphan", lambda: database.write("orphan", parent="nobody"))
    first = refused(outcomes, "first", lambda: database.write("first", database.let_them_meet(orphan)))
    first()
    database.pool.shutdown()
    assert {type(outcome) for outcome in outcomes.values()} == {sqlite3.IntegrityError}
    assert database.rows() == set()
    database.write("next")
    assert database.rows() == {"next"}


def test_a_transaction_that_was_left_to_nobody_is_committed_all_the_same(database: Database) -> None:
    database.writers._waiting += 1  # a thread that is ended while it waits
    database.write("row")
    assert database.rows() == {"row"}


def test_who_waits_too_long_is_told_so_and_holds_up_nobody(tmp_path: Path) -> None:
    database = Database(tmp_path / "rows.db", wait_s=0.05)
    outcomes: dict[str, BaseException | None] = {}

    def wait_for_its_end() -> None:
        meet()
        database.pool.shutdown()

    meet = database.let_them_meet(refused(outcomes, "late", lambda: database.write("late")))
    database.write("slow", wait_for_its_end)
    assert isinstance(outcomes["late"], Unavailable)
    assert database.rows() == {"slow"}


def test_a_database_that_another_process_writes_to_fails_who_begins_and_nobody_after(
    database: Database,
) -> None:
    with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        connection = database._take()
        connection.execute("PRAGMA busy_timeout = 10")
        database._idle.put(connection)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            database.write("refused")
        other.execute("ROLLBACK")
    database.write("after")
    assert database.rows() == {"after"}
