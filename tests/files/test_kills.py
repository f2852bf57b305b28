"""Killed at every step of an upload, of a deletion and of the removal: no row without bytes, and no bytes for ever.

A step is a line of the code that stores and removes files: a child process kills itself before it runs that line.
"""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

import chat_api
from chat_api import create_app
from chat_api.database.columns import now
from chat_api.database.session import db
from chat_api.files import moving, removal
from chat_api.files.models import AttachmentDraft, AttachmentFile, FileRelease, StoredFile
from chat_api.files.store import name_of, storage
from chat_api.storage import FallbackStorage, local
from config import Config
from tests.conftest import serving, user_maker
from tests.support.api import Api
from tests.support.tables import fresh_database
from tests.support.uploads import PNG, upload, uploaded
from tests.transfer.exports import content_line, file_of, imported, whole, zip_of

PACKAGE = Path(chat_api.__file__).parent
TRACED = {
    str(PACKAGE / name)
    for name in (
        "storage/local.py", "files/service.py", "files/removal.py", "attachments/routes.py", "attachments/service.py",
        "attachments/uploads.py", "idempotency/decorator.py", "messages/deletion.py", "users/service.py",
        "operations/erasure.py", "auth/routes.py", "messages/routes.py", "transfer/file_importer.py",
        "files/moving.py",
    )
}  # fmt: skip
Act = Callable[[Api], Any]
REFERRING: tuple[Any, ...] = (AttachmentFile, AttachmentDraft)
# every eleventh step takes seconds, all of them a minute
EVERY = pytest.mark.parametrize(
    "stride", [11, pytest.param(1, marks=[pytest.mark.nightly, pytest.mark.timeout(900)])]
)
pytestmark = pytest.mark.nightly


@pytest.fixture
def app(backend: str, tmp_path: Path) -> Iterator[Flask]:
    """A database and a storage of the test's own."""
    with fresh_database(backend, tmp_path) as url, serving(url, tmp_path) as application:
        yield application


@pytest.fixture
def make_user(app: Flask) -> Callable[..., Api]:
    return user_maker(app)


class Steps:
    """Counts the lines that are run for the first time, and kills the process before one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.seen: set[tuple[str, int]] = set()
        self._kill_at = kill_at

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            self.seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(self.seen) == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.trace


def run_in_child(app: Flask, user: Api, act: Act, kill_at: int | None) -> int | None:
    """Act in a process of its own; how many steps that took, None where it was killed."""
    settings = {name: app.config[name] for name in Config.__dataclass_fields__}
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            steps = Steps(kill_at)
            child = Api(create_app(Config(**settings)), user.token, user.user)
            with child.app.app_context():
                sys.settrace(steps.trace)
                act(child)
                sys.settrace(None)
            os.write(writer, json.dumps(len(steps.seen)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    assert status == 0, "The child has failed."
    return int(text)


def every_step(app: Flask, user: Api, prepare: Callable[[], Any], act: Act, stride: int) -> Iterator[int]:
    """Let it be killed before each step, one after the other, or before some; the state is to be looked at then."""
    prepare()
    count = run_in_child(app, user, act, None)
    assert count
    assert count > 20, "Too few steps are seen for this to show anything."
    for step in range(1, count + 1, stride):
        prepare()
        if run_in_child(app, user, act, step) is None:
            yield step


def assert_each_row_has_its_bytes(app: Flask) -> None:
    with app.app_context():
        for file in db.session.scalars(sa.select(StoredFile)):
            content = b"".join(storage().open(name_of(file.user_id, file.id)))
            assert hashlib.sha256(content).hexdigest() == file.sha256
        for model in REFERRING:
            has_none = ~sa.exists().where(StoredFile.user_id == model.user_id, StoredFile.id == model.file_id)
            assert db.session.scalars(sa.select(model.id).where(has_none)).all() == []


def sweep(app: Flask) -> removal.Swept:
    """As an hour later, when nothing that was killed can still be in progress."""
    with app.app_context():
        for path in (Path(app.config["DATA_DIR"]) / "files" / local.INCOMING).iterdir():
            os.utime(path, (0, 0))
        removal.remove_all_released_and_commit()
        swept = removal.sweep_and_commit(at=now() + 2 * removal.SWEEP_AFTER)
        removal.remove_all_released_and_commit()
        return swept


def assert_nothing_is_left_over(app: Flask) -> None:
    """Each file in the storage has a row, each row is used, and nothing is to be done."""
    with app.app_context():
        rows = {name_of(file.user_id, file.id) for file in db.session.scalars(sa.select(StoredFile))}
        used = {
            name_of(row.user_id, row.file_id)
            for model in REFERRING
            for row in db.session.scalars(sa.select(model))
        }
        stored = {each.name for each in storage().names()}
        assert rows == used == stored
        assert db.session.scalars(sa.select(FileRelease.file_id)).all() == []
        assert list((Path(app.config["DATA_DIR"]) / "files" / local.INCOMING).iterdir()) == []


def content_of(number: int) -> bytes:
    return b"content %d\n" % number * 20_000  # of several chunks


@EVERY
def test_upload(app: Flask, make_user: Callable[..., Api], stride: int) -> None:
    user = make_user()
    message = user.message(user.conversation()["id"])["id"]
    numbers = iter(range(10_000))
    current = {"number": 0}

    def prepare() -> None:
        current["number"] = next(numbers)

    def act(child: Api) -> None:
        response = upload(child, content_of(current["number"]), name="a.txt", claimed="", message_id=message)
        assert response.status_code == 201

    for killed, _ in enumerate(every_step(app, user, prepare, act, stride)):
        if killed % 10 == 0:
            assert_each_row_has_its_bytes(app)
    assert_each_row_has_its_bytes(app)
    swept = sweep(app)
    assert swept.incoming, "Kills while the file arrives leave it."
    assert swept.without_row, "Kills between bytes and row leave bytes."
    assert swept.without_bytes == 0
    assert_each_row_has_its_bytes(app)
    assert_nothing_is_left_over(app)


@EVERY
def test_deletion_and_removal(app: Flask, make_user: Callable[..., Api], stride: int) -> None:
    user = make_user()
    numbers = iter(range(10_000))
    current = {"id": ""}

    def prepare() -> None:
        current["id"] = uploaded(user, content_of(next(numbers)), name="a.txt", claimed="")["id"]

    def act(child: Api) -> None:
        assert child.delete(f"/chat/attachments/{current['id']}").status_code == 204
        removal.remove_all_released_and_commit()

    gone = 0
    for _ in every_step(app, user, prepare, act, stride):
        assert_each_row_has_its_bytes(app)
        gone += user.get(f"/chat/attachments/{current['id']}").status_code == 404
    assert gone
    with app.app_context():
        removal.remove_all_released_and_commit()  # what begins again after a crash
    assert_nothing_is_left_over(app)
    swept = sweep(app)
    assert (swept.without_row, swept.unused, swept.without_bytes) == (0, 0, 0), "No sweep is needed."


@EVERY
def test_deletion_of_a_message_and_of_its_account(
    app: Flask, make_user: Callable[..., Api], stride: int
) -> None:
    numbers = iter(range(10_000))
    current: dict[str, Api] = {}

    def prepare() -> None:
        user = current["user"] = make_user()
        message = user.message(user.conversation()["id"])["id"]
        for _ in range(2):
            uploaded(user, content_of(next(numbers)), name="a.txt", claimed="", message_id=message)
        uploaded(user, content_of(next(numbers)), name="a.txt", claimed="")

    def act(child: Api) -> None:
        mine = Api(child.app, current["user"].token, current["user"].user)
        conversation = mine.get("/chat/conversations").get_json()[0]["id"]
        message = mine.get(f"/chat/conversations/{conversation}/messages").get_json()[0]["id"]
        assert mine.delete(f"/chat/messages/{message}").status_code == 204
        assert mine.delete("/auth/me").status_code == 204
        removal.remove_all_released_and_commit()

    for _ in every_step(app, make_user(), prepare, act, stride):
        pass
    assert_each_row_has_its_bytes(app)
    with app.app_context():
        removal.remove_all_released_and_commit()
    swept = sweep(app)
    assert (swept.without_row, swept.without_bytes) == (0, 0)
    assert_nothing_is_left_over(app)


@EVERY
def test_import_of_a_zip(app: Flask, make_user: Callable[..., Api], stride: int) -> None:
    user = make_user()
    numbers = iter(range(10_000))
    current: dict[str, Any] = {}

    def prepare() -> None:
        first, said = whole(1)
        texts = [content_of(next(numbers)) for _ in range(2)]
        lines = [content_line(said, text) for text in texts]
        entries = {f"files/{line['sha256']}": text for line, text in zip(lines, texts, strict=True)}
        current["lines"] = lines
        current["zip"] = zip_of({"export.ndjson": file_of(first, said, *lines), **entries})

    def act(child: Api) -> None:
        report = imported(child, current["zip"], "application/zip")
        assert report["files"]["imported"] == 2, report

    for killed, _ in enumerate(every_step(app, user, prepare, act, stride)):
        # it is repeated, sometimes at once, sometimes after others
        if killed % 2:
            assert imported(user, current["zip"], "application/zip")["errors"] == []
            for line in current["lines"]:
                with user.get(f"/chat/attachments/{line['id']}/content") as response:
                    assert hashlib.sha256(response.get_data()).hexdigest() == line["sha256"]
    assert_each_row_has_its_bytes(app)
    swept = sweep(app)
    assert swept.incoming, "Kills while a file is copied leave it."
    assert swept.without_row, "Kills between bytes and row leave bytes."
    assert swept.without_bytes == 0
    assert_each_row_has_its_bytes(app)
    assert_nothing_is_left_over(app)


@EVERY
def test_move_to_another_storage(
    app: Flask, make_user: Callable[..., Api], tmp_path: Path, stride: int
) -> None:
    user = make_user()
    numbers = iter(range(10_000))

    def prepare() -> None:
        uploaded(user, content_of(next(numbers)), name="a.txt", claimed="")

    def act(_: Api) -> None:
        both = storage()
        assert isinstance(both, FallbackStorage)
        for work in (moving.copy_files, moving.remove_copies):
            moved = work(source=both.second, target=both.first)
            assert (moved.lost, moved.broken) == ([], [])

    folder = tmp_path / "moved"
    with serving(app.config["DATABASE_URL"], tmp_path, ATTACHMENT_STORAGE=str(folder)) as other:
        steps = every_step(other, user, prepare, act, stride)
        for _ in steps:
            assert_each_row_has_its_bytes(other)
        with other.app_context():
            act(user)
        assert list((tmp_path / "files").glob("*-*/*")) == []
        assert_each_row_has_its_bytes(other)
        with other.app_context():
            for path in (folder / local.INCOMING).iterdir():
                os.utime(path, (0, 0))
            swept = removal.sweep_and_commit(at=now() + 2 * removal.SWEEP_AFTER)
            assert swept.incoming, "Kills while a file is copied leave it."
            assert (swept.unused, swept.without_bytes) == (0, 0)
            rows = {name_of(file.user_id, file.id) for file in db.session.scalars(sa.select(StoredFile))}
            assert {each.name for each in storage().names()} == rows


def test_a_sweep_leaves_what_is_young(app: Flask, make_user: Callable[..., Api]) -> None:
    user = make_user()
    kept = uploaded(user)
    with app.app_context(), storage().new_file() as incoming:
        incoming.file.write(b"x")
        storage().put(
            name_of(user.user_id, kept["id"]), incoming
        )  # as of an upload before its row is written
        assert removal.sweep_and_commit().without_row == 0
        assert removal.sweep_and_commit(at=now() + 2 * timedelta(hours=1), changes=False).without_row == 1
        assert removal.sweep_and_commit(at=now() + 2 * timedelta(hours=1)).without_row == 1
        assert removal.sweep_and_commit(at=now() + 2 * timedelta(hours=1)).without_row == 0
    assert user.get(kept["file_path"]).get_data() == PNG
