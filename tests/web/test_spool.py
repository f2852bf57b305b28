"""Temporary files: in DATA_DIR, without a name, for nobody else, and what was left of them is deleted."""

import os
import stat
from pathlib import Path

import pytest
from flask import Flask

from chat_api.errors import Unavailable
from chat_api.web import spool


@pytest.fixture
def data_dir(app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is not there yet."""
    folder = tmp_path / "data"
    monkeypatch.setitem(app.config, "DATA_DIR", str(folder))
    return folder


def test_files_are_in_the_data_folder_and_have_no_name(app: Flask, data_dir: Path) -> None:
    with app.app_context(), spool.spool_file() as file:
        file.write(b"x" * 100_000)
        file.flush()
        folder = data_dir / "spool"
        assert os.fstat(file.fileno()).st_dev == folder.stat().st_dev
        assert str(folder) in os.readlink(f"/proc/self/fd/{file.fileno()}")
        assert list(folder.iterdir()) == []
        assert [stat.S_IMODE(path.stat().st_mode) for path in (data_dir, folder)] == [0o700, 0o700]
    assert file.closed


def test_folder_that_can_not_be_made_is_unavailable(app: Flask, data_dir: Path) -> None:
    data_dir.write_text("a file in its place")
    with app.app_context(), pytest.raises(Unavailable), spool.spool_file():
        pass


def test_leftovers_are_deleted_and_new_files_are_not(data_dir: Path) -> None:
    spool.remove_leftovers(data_dir)  # nothing is there yet
    folder = data_dir / "spool"
    folder.mkdir(parents=True)
    old, new = folder / "tmpold", folder / "tmpnew"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    spool.remove_leftovers(data_dir)
    assert list(folder.iterdir()) == [new]
