"""`flask attachments move`: every file arrives whole, and what is deleted meanwhile stays deleted."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from chat_api.files import moving, removal
from chat_api.files.store import storage
from chat_api.storage import LocalStorage
from chat_api.storage.fallback import FallbackStorage
from chat_api.storage.interface import Incoming
from tests.conftest import serving, user_maker
from tests.support.api import Api
from tests.support.cli import run_flask
from tests.support.s3 import BUCKET, S3Server
from tests.support.tables import fresh_database
from tests.support.uploads import uploaded

CONTENTS = [b"content %d " % number * 50_000 for number in range(5)]


@pytest.fixture
def url(backend: str, tmp_path: Path) -> Iterator[str]:
    with fresh_database(backend, tmp_path) as address:
        yield address


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new"


@pytest.fixture
def user(url: str, tmp_path: Path) -> Api:
    """A user with files in the folder `files` of DATA_DIR."""
    with serving(url, tmp_path) as app:
        made = user_maker(app)()
        for content in CONTENTS:
            uploaded(made, content, name="a.txt", claimed="")
        return made


@pytest.fixture
def app(url: str, tmp_path: Path, user: Api, target: Path) -> Iterator[Flask]:
    """The service with the new storage, and the old one as the second."""
    with serving(url, tmp_path, ATTACHMENT_STORAGE=str(target)) as application:
        user.app = application
        yield application


def run(app: Flask, *arguments: str) -> Result:
    return run_flask(lambda: app, "attachments", *arguments)


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-*/*"))


def old(tmp_path: Path) -> Path:
    return tmp_path / "files"


def downloads(user: Api) -> list[bytes]:
    """The contents of all drafts, in the order of their upload."""
    found = []
    for attachment_id in drafts(user):
        with user.get(f"/chat/attachments/{attachment_id}/content") as response:
            assert response.status_code == 200
            found.append(response.get_data())
    return found


def drafts(user: Api) -> list[str]:
    import sqlalchemy as sa

    from chat_api.database.session import db
    from chat_api.files.models import AttachmentDraft

    with user.app.app_context():
        query = sa.select(AttachmentDraft.id).where(AttachmentDraft.user_id == user.user_id)
        return list(db.session.scalars(query.order_by(AttachmentDraft.id)))


def test_files_are_copied_then_old_copies_deleted_on_demand(
    app: Flask, user: Api, tmp_path: Path, target: Path
) -> None:
    assert downloads(user) == CONTENTS  # before, from the old storage
    total = sum(map(len, CONTENTS))
    result = run(app, "move", "--to", str(target))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == (
        f"Copied 5 ({total} bytes), there already 0, deleted meanwhile 0, lost 0, damaged 0."
    )
    assert len(files_in(target)) == len(files_in(old(tmp_path))) == 5
    assert downloads(user) == CONTENTS
    assert "Copied 0 (0 bytes), there already 5," in run(app, "move", "--to", str(target)).stdout

    result = run(app, "move", "--to", str(target), "--remove-old")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "Old copies deleted 5.")
    assert files_in(old(tmp_path)) == []
    assert downloads(user) == CONTENTS
    assert "Old copies deleted 0." in run(app, "move", "--to", str(target), "--remove-old").stdout


def test_only_what_is_whole_in_the_new_storage_is_deleted_in_the_old(
    app: Flask, user: Api, tmp_path: Path, target: Path
) -> None:
    assert "Old copies deleted 0." in run(app, "move", "--to", str(target), "--remove-old").output
    assert len(files_in(old(tmp_path))) == 5  # nothing has been copied yet
    run(app, "move", "--to", str(target))
    spoilt = files_in(target)[2]
    spoilt.write_bytes(b"x" * spoilt.stat().st_size)
    result = run(app, "move", "--to", str(target), "--remove-old")
    assert result.exit_code == 1
    assert f"damaged: {spoilt.relative_to(target)}" in result.stderr
    assert [path.name for path in files_in(old(tmp_path))] == [spoilt.name]


def test_lost_and_damaged_files_are_named_and_not_copied(
    app: Flask, user: Api, tmp_path: Path, target: Path
) -> None:
    lost, damaged, *_ = files_in(old(tmp_path))
    lost.unlink()
    damaged.write_bytes(b"other")
    result = run(app, "move", "--to", str(target))
    assert result.exit_code == 1
    assert "Copied 3 " in result.stdout
    assert f"lost: {lost.relative_to(old(tmp_path))}" in result.stderr
    assert f"damaged: {damaged.relative_to(old(tmp_path))}" in result.stderr
    assert len(files_in(target)) == 3
    assert damaged.exists()


class Watched(LocalStorage):
    """A storage in which something happens around a copy."""

    def __init__(self, folder: Path, *, before: Callable[[], Any], after: Callable[[], Any]) -> None:
        super().__init__(folder)
        self._before, self._after = before, after

    def put(self, name: str, incoming: Incoming) -> None:
        self._before()
        super().put(name, incoming)
        self._after()


def nothing() -> None:
    """Nothing happens."""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_file_that_is_deleted_while_it_is_copied_does_not_come_back(
    app: Flask, user: Api, tmp_path: Path, target: Path, moment: str
) -> None:
    left = iter(drafts(user)[:2])

    def delete() -> None:
        if (draft := next(left, None)) is not None:
            assert user.delete(f"/chat/attachments/{draft}").status_code == 204
            removal.remove_all_released_and_commit()

    before, after = (delete, nothing) if moment == "before" else (nothing, delete)
    with app.app_context():
        both = storage()
        assert isinstance(both, FallbackStorage)
        moved = moving.copy_files(source=both.second, target=Watched(target, before=before, after=after))
    assert (moved.copied, moved.deleted, moved.lost) == (3, 2, [])
    assert len(files_in(target)) == len(files_in(old(tmp_path))) == 3
    assert len(downloads(user)) == 3


def test_upload_and_deletion_after_the_copy_reach_both(
    app: Flask, user: Api, tmp_path: Path, target: Path
) -> None:
    run(app, "move", "--to", str(target))
    new = uploaded(user, b"new", name="n.txt", claimed="")
    assert len(files_in(target)) == 6
    assert user.delete(f"/chat/attachments/{new['id']}").status_code == 204
    assert user.delete(f"/chat/attachments/{drafts(user)[0]}").status_code == 204
    with app.app_context():
        removal.remove_all_released_and_commit()
    assert len(files_in(target)) == len(files_in(old(tmp_path))) == 4
    assert "there already 4," in run(app, "move", "--to", str(target)).stdout


def test_two_names_of_one_place_lose_nothing(url: str, tmp_path: Path, user: Api) -> None:
    """A bind mount, say; a symbolic link is seen through."""
    with serving(url, tmp_path) as app:
        files = LocalStorage(old(tmp_path))
        user.app = app
        with app.app_context(), pytest.raises(moving.SameStorage):
            moving.remove_copies(source=files, target=LocalStorage(tmp_path / "files"))
        assert downloads(user) == CONTENTS
        assert "there is nothing to move" in run(app, "move", "--to", "").stderr
        assert len(files_in(old(tmp_path))) == 5
    os.symlink(old(tmp_path), tmp_path / "link")
    with serving(url, tmp_path, ATTACHMENT_STORAGE=str(tmp_path / "link")) as app:
        assert "there is nothing to move" in run(app, "move", "--to", str(tmp_path / "link")).stderr


def test_storage_has_to_be_in_use(app: Flask, tmp_path: Path) -> None:
    """Else uploads would go on to the old one, and the service would not find what is moved."""
    result = run(app, "move", "--to", str(tmp_path / "other"))
    assert result.exit_code == 1
    assert "restart the service" in result.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_to_a_bucket_and_back(
    url: str, tmp_path: Path, user: Api, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with S3Server() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        bucket = f"s3://{BUCKET}/chat"
        to_bucket = {"ATTACHMENT_STORAGE": bucket, "S3_ENDPOINT_URL": s3.endpoint_url}
        back = {
            "ATTACHMENT_STORAGE": str(target),
            "ATTACHMENT_STORAGE_FALLBACK": bucket,
            "S3_ENDPOINT_URL": s3.endpoint_url,
        }
        for settings, where in ((to_bucket, bucket), (back, str(target))):
            with serving(url, tmp_path, **settings) as app:
                user.app = app
                assert "Copied 5 " in run(app, "move", "--to", where).stdout
                assert "Old copies deleted 5." in run(app, "move", "--to", where, "--remove-old").stdout
                assert downloads(user) == CONTENTS
        assert s3.keys() == set()
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files_in(target)}
    assert hashes == {hashlib.sha256(content).hexdigest() for content in CONTENTS}
