"""Short writes to SQLite that are done together: each has what it was told, whatever happens to the others."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chat_api.database import batches
from chat_api.database.batches import Batches
from chat_api.errors import NotFound, Unavailable

THREADS, EACH = 8, 25


class Database:
    """A file with a table, its writes, and how often they were committed."""

    def __init__(self, path: Path) -> None:
        self.path, self.commits = path, 0
        self.may_begin = True
        self.batches = Batches(begin=self._transaction, savepoint=self._savepoint)
        self._driver = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._driver.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; CREATE TABLE parents (id PRIMARY KEY);"
            "CREATE TABLE rows (id PRIMARY KEY, parent REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self.may_begin:
            raise Unavailable()
        self._driver.execute("BEGIN IMMEDIATE")
        try:
            yield
            time.sleep(0.002)  # as a disk takes: others come meanwhile
            self._driver.execute("COMMIT")
        except BaseException:
            self._driver.execute("ROLLBACK")
            raise
        self.commits += 1

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        self._driver.execute("SAVEPOINT one")
        try:
            yield
        except BaseException:
            self._driver.execute("ROLLBACK TO one")
            raise
        finally:
            self._driver.execute("RELEASE one")

    def insert(self, row: str, parent: str | None = None) -> None:
        self._driver.execute("INSERT INTO rows VALUES (?, ?)", (row, parent))

    def write(self, row: str, then: Callable[[], None] = lambda: None, parent: str | None = None) -> str:
        def run() -> str:
            self.insert(row, parent)
            then()
            return f"wrote {row}"

        return self.batches.run(run)

    def rows(self) -> set[str]:
        """What another process sees."""
        with closing(sqlite3.connect(self.path)) as connection:
            return {row[0] for row in connection.execute("SELECT id FROM rows")}

    def together(self, *writes: Callable[[], object]) -> list["Future[object]"]:
        """Have these done in one batch, in this order: they come while another one is done."""
        with ThreadPoolExecutor(len(writes) + 1) as pool:
            futures: list[Future[object]] = []

            def let_them_come() -> None:
                for number, write in enumerate(writes, 1):
                    futures.append(pool.submit(write))
                    while len(self.batches._waiting) < number:
                        time.sleep(0.001)

            pool.submit(self.write, "before", let_them_come).result()
        return futures


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "rows.db")


def errors_of(futures: list["Future[object]"]) -> list[type[BaseException] | None]:
    errors = [future.exception() for future in futures]
    return [None if error is None else type(error) for error in errors]


def test_what_returns_is_stored_and_many_share_a_commit(database: Database) -> None:
    missing: list[str] = []

    def work(thread: int) -> None:
        for number in range(EACH):
            row = f"{thread}-{number}"
            assert database.write(row) == f"wrote {row}"
            if row not in database.rows():
                missing.append(row)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    assert missing == []
    assert len(database.rows()) == THREADS * EACH
    assert database.commits < THREADS * EACH / 2


def test_one_that_is_refused_undoes_its_own_work_only(database: Database) -> None:
    def refuse() -> None:
        raise NotFound("row")

    futures = database.together(
        lambda: database.write("first"),
        lambda: database.write("refused", refuse),
        lambda: database.write("first"),
        lambda: database.write("last"),
    )
    assert errors_of(futures) == [None, NotFound, sqlite3.IntegrityError, None]
    assert futures[-1].result() == "wrote last"
    assert database.rows() == {"before", "first", "last"}
    assert database.commits == 2


def test_where_the_commit_fails_nobody_is_told_that_anything_is_stored(database: Database) -> None:
    futures = database.together(
        lambda: database.write("first"), lambda: database.write("orphan", parent="nobody")
    )
    assert errors_of(futures) == [sqlite3.IntegrityError] * 2
    assert database.rows() == {"before"}
    database.write("next")
    assert database.rows() == {"before", "next"}


def test_where_no_transaction_can_begin_all_that_wait_for_it_are_told(database: Database) -> None:
    def forbid() -> None:
        database.may_begin = False

    futures = database.together(lambda: database.write("first", forbid), lambda: database.write("second"))
    assert errors_of(futures) == [None, None]
    futures = []
    with ThreadPoolExecutor(3) as pool:
        futures += [pool.submit(database.write, str(number)) for number in range(3)]
    assert errors_of(futures) == [Unavailable] * 3
    database.may_begin = True
    assert database.write("third") == "wrote third"


def test_while_the_database_is_away_nothing_is_tried_a_second_time(database: Database) -> None:
    tries: list[str] = []

    def be_away() -> None:
        tries.append("once")
        raise Unavailable()

    futures = database.together(lambda: database.write("first"), lambda: database.write("second", be_away))
    assert errors_of(futures) == [Unavailable] * 2
    assert tries == ["once"]
    assert database.rows() == {"before"}


def test_one_thread_alone_waits_for_nobody(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "LONGEST_GAP_S", 30)
    started = time.monotonic()
    for number in range(20):
        database.write(str(number))
    assert time.monotonic() - started < 20


def test_those_that_came_together_are_waited_for_the_next_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "LONGEST_GAP_S", 5)
    monkeypatch.setattr(batches, "LONGEST_S", 30)
    database.together(lambda: database.write("first"), lambda: database.write("second"))
    before = database.commits
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(database.write, "third")
        while not database.batches._is_gathering:
            time.sleep(0.001)
        assert not one.done()
        pool.submit(database.write, "fourth").result()
    assert database.commits == before + 1
    # nobody else comes: the one who waited for that is not kept a second time
    monkeypatch.setattr(batches, "LONGEST_GAP_S", 0.01)
    database.write("fifth")
    monkeypatch.setattr(batches, "LONGEST_GAP_S", 30)
    started = time.monotonic()
    database.write("sixth")
    assert time.monotonic() - started < 20


def test_who_waits_is_told_also_where_the_leading_thread_is_ended(database: Database) -> None:
    def end() -> None:
        raise SystemExit

    futures = database.together(lambda: database.write("first", end), lambda: database.write("second"))
    assert errors_of(futures) == [SystemExit, Unavailable] or errors_of(futures) == [Unavailable] * 2
    assert database.write("third") == "wrote third"
    assert threading.active_count() < 50
