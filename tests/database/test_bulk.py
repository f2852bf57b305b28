"""Long writes on SQLite leave half of the time to other writers."""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database import bulk
from chat_api.database.columns import TIME_FORMAT, time_text
from chat_api.database.session import db

STEP_S = 0.03


def rests_of(app: Flask, monkeypatch: pytest.MonkeyPatch, *, before_s: float, locked_s: float) -> float:
    """How long a write rests after a step that prepares for so long, and then keeps the lock for so long."""
    rests: list[float] = []
    sleep = time.sleep

    def steps() -> Iterator[None]:
        sleep(before_s)
        db.session.execute(sa.text("SELECT 1"))
        sleep(locked_s)
        yield

    with app.app_context(), monkeypatch.context() as patch:
        patch.setattr(bulk.time, "sleep", rests.append)
        for _ in bulk.with_rests(steps()):
            db.session.commit()
    return max(rests)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True, scope="session")
def test_a_rest_makes_up_for_the_lock_and_not_for_what_is_done_without_it(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rests_of(app, monkeypatch, before_s=0, locked_s=STEP_S) > STEP_S / 2
    assert rests_of(app, monkeypatch, before_s=10 * STEP_S, locked_s=STEP_S) == bulk.LET_OTHERS_GO_FIRST_S


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True, scope="session")
def test_times_are_written_as_their_format_says(app: Flask) -> None:
    for moment in (
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2026, 11, 23, 9, 30, 0, 7, tzinfo=timezone(timedelta(hours=2))),
        datetime(9998, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ):
        assert time_text(moment) == moment.astimezone(UTC).strftime(TIME_FORMAT)
    assert time_text(None) is None


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True, scope="session")
def test_what_long_writes_commit_is_moved_to_the_database_in_their_rests(app: Flask, tmp_path: Path) -> None:
    """And does not stay in the log until some commit finds it too long, which would be as slow as many."""

    def steps() -> Iterator[None]:
        for number in range(bulk.CHECKPOINTS_FROM + 2):
            db.session.execute(sa.text(f"CREATE TABLE filled_{number} (value TEXT)"))
            yield

    def moved() -> int:
        copy = shutil.copy(str(db.engine.url.database), tmp_path)  # without its log
        with closing(sqlite3.connect(copy)) as connection:
            found = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'filled_%'")
            return int(found.fetchone()[0])

    with app.app_context():
        seen = []
        for _ in bulk.with_rests(steps()):
            db.session.commit()
            seen.append(moved())
        seen.append(moved())
        for number in range(bulk.CHECKPOINTS_FROM + 2):
            db.session.execute(sa.text(f"DROP TABLE filled_{number}"))
        db.session.commit()
    assert seen == [0] * bulk.CHECKPOINTS_FROM + [*range(bulk.CHECKPOINTS_FROM, bulk.CHECKPOINTS_FROM + 3)]
