"""The storage in a folder."""

import os
from pathlib import Path

import pytest

from chat_api.database.columns import new_id
from chat_api.storage import LocalStorage, NotStored

ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"


def test_what_is_put_can_be_read_in_ranges_and_is_gone_after_deletion(tmp_path: Path) -> None:
    storage, name = LocalStorage(tmp_path / "files"), f"{new_id()}/{new_id()}"
    with storage.new_file() as incoming:
        incoming.file.write(b"0123456789")
        storage.put(name, incoming)
    assert b"".join(storage.open(name)) == b"0123456789"
    assert b"".join(storage.open(name, 3, 5)) == b"34"
    assert b"".join(storage.open(name, 8)) == b"89"
    assert (storage.size_of(name), [each.name for each in storage.names()]) == (10, [name])
    storage.delete(name)
    storage.delete(name)
    assert (storage.size_of(name), list(storage.names())) == (None, [])
    with pytest.raises(NotStored):
        storage.open(name)


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/passwd", f"{ID}/../{ID}", f"{ID}/{ID}\n"])
def test_no_other_names_are_taken(tmp_path: Path, name: str) -> None:
    storage = LocalStorage(tmp_path)
    for use in (storage.open, storage.delete, storage.size_of, storage.local_path):
        with pytest.raises(ValueError, match="name of a stored file"):
            use(name)


def test_leftovers_are_told_from_uploads_in_progress(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with storage.new_file() as incoming:
        abandoned = incoming.path.parent / "abandoned"
        abandoned.write_bytes(b"x")
        for path in (incoming.path, abandoned):
            os.utime(path, (0, 0))
        assert storage.remove_leftovers() == 1
        assert incoming.path.exists()
        assert not abandoned.exists()
    assert list(incoming.path.parent.iterdir()) == []


def test_a_file_that_is_just_received_is_no_leftover(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    (tmp_path / "incoming").mkdir()
    fresh = tmp_path / "incoming" / "fresh"
    fresh.write_bytes(b"x")
    assert (storage.remove_leftovers(), fresh.exists()) == (0, True)
