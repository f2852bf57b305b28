"""Two storages as one, while files are moved."""

import os
from pathlib import Path
from uuid import uuid4

import pytest

from chat_api.storage import LocalStorage, NotStored, Storage, open_storage
from chat_api.storage.fallback import FallbackStorage


def put(storage: Storage, name: str, data: bytes) -> None:
    with storage.new_file() as incoming:
        incoming.file.write(data)
        storage.put(name, incoming)


@pytest.fixture
def first(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "first")


@pytest.fixture
def second(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "second")


@pytest.fixture
def both(first: LocalStorage, second: LocalStorage) -> FallbackStorage:
    return FallbackStorage(first, second)


def new_name() -> str:
    return f"{uuid4()}/{uuid4()}"


def test_files_of_both_are_found(first: LocalStorage, second: LocalStorage, both: FallbackStorage) -> None:
    names = [new_name(), new_name()]
    put(first, names[0], b"of the first")
    put(second, names[1], b"of the second")
    assert [b"".join(both.open(name)) for name in names] == [b"of the first", b"of the second"]
    assert b"".join(both.open(names[1], 3, 6)) == b"the"
    assert [both.size_of(name) for name in names] == [12, 13]
    assert {each.name for each in both.names()} == set(names)
    with pytest.raises(NotStored):
        both.open(new_name())
    assert both.size_of(new_name()) is None


def test_uploads_go_to_the_first(first: LocalStorage, second: LocalStorage, both: FallbackStorage) -> None:
    name = new_name()
    put(both, name, b"data")
    assert (first.size_of(name), second.size_of(name)) == (4, None)


def test_deleted_file_is_gone_from_both(
    first: LocalStorage, second: LocalStorage, both: FallbackStorage
) -> None:
    name = new_name()
    for storage in (first, second):
        put(storage, name, b"data")
    both.delete(name)
    assert first.size_of(name) is second.size_of(name) is None


def test_file_that_is_moved_at_this_moment_is_found(first: LocalStorage, second: LocalStorage) -> None:
    """After the first was asked, and before the second is."""

    class Moving(LocalStorage):
        def __init__(self, folder: Path, name: str) -> None:
            super().__init__(folder)
            self._moved = name

        def open(self, name, start=0, stop=None):
            self._move_once()
            return super().open(name, start, stop)

        def size_of(self, name: str) -> int | None:
            self._move_once()
            return super().size_of(name)

        def _move_once(self) -> None:
            if LocalStorage.size_of(self, self._moved) is not None:
                put(first, self._moved, b"data")
                self.delete(self._moved)

    for action in ("open", "size_of"):
        name = new_name()
        put(second, name, b"data")
        found = getattr(FallbackStorage(first, Moving(second._folder, name)), action)(name)
        assert found == 4 if action == "size_of" else b"".join(found) == b"data"


def test_only_the_first_has_a_path(
    first: LocalStorage, second: LocalStorage, both: FallbackStorage, tmp_path: Path
) -> None:
    names = [new_name(), new_name()]
    put(first, names[0], b"data")
    put(second, names[1], b"data")
    assert both.local_path(names[0]) == tmp_path / "first" / names[0]
    assert both.local_path(names[1]) is None


def test_settings_name_the_storages(tmp_path: Path) -> None:
    assert open_storage(setting="", data_dir=tmp_path).address == str(tmp_path / "files")
    assert isinstance(open_storage(setting=str(tmp_path / "files"), data_dir=tmp_path), LocalStorage)
    bucket = open_storage(setting="s3://bucket/some/prefix/", data_dir=tmp_path)
    assert isinstance(bucket, FallbackStorage)
    assert bucket.first.address == "s3://bucket/some/prefix/"
    assert bucket.second.address == str(tmp_path / "files")
    elsewhere = open_storage(setting="s3://bucket", data_dir=tmp_path, fallback="/srv/files")
    assert isinstance(elsewhere, FallbackStorage)
    assert (elsewhere.first.address, elsewhere.second.address) == ("s3://bucket/", "/srv/files")
    same = open_storage(setting="s3://bucket/a", data_dir=tmp_path, fallback="s3://bucket/a/")
    assert same.address == "s3://bucket/a/"
    assert not isinstance(same, FallbackStorage)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_group_may_read_if_it_is_said(tmp_path: Path, mask: int) -> None:
    """Also with the umask of the systemd units, which leaves a group nothing."""
    before = os.umask(mask)
    try:
        for is_group_readable, modes in ((False, (0o700, 0o600)), (True, (0o750, 0o640))):
            storage = LocalStorage(tmp_path / str(is_group_readable), is_group_readable=is_group_readable)
            name = new_name()
            put(storage, name, b"data")
            path = storage.local_path(name)
            assert path is not None
            folders = {each.stat().st_mode & 0o777 for each in (path.parent, path.parent.parent)}
            assert (folders, path.stat().st_mode & 0o777) == ({modes[0]}, modes[1])
    finally:
        os.umask(before)
