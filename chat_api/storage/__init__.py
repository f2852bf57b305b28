"""Where the bytes of files are: behind one small interface, without a database and without Flask."""

import re
from pathlib import Path

from .fallback import FallbackStorage
from .interface import Incoming, NotStored, Storage, Stored
from .local import LocalStorage
from .s3 import S3Storage

__all__ = [
    "FallbackStorage",
    "Incoming",
    "LocalStorage",
    "NotStored",
    "S3Storage",
    "Storage",
    "Stored",
    "open_one_storage",
    "open_storage",
]

FOLDER = "files"  # in DATA_DIR
_S3 = re.compile(r"s3://(?P<bucket>[A-Za-z0-9._-]{3,255})(/(?P<prefix>.*?))?/?")


def open_storage(
    *,
    setting: str,
    data_dir: str | Path,
    endpoint_url: str = "",
    fallback: str = "",
    is_group_readable: bool = False,
) -> Storage:
    """The storage of ATTACHMENT_STORAGE, which also finds what is still in that of ATTACHMENT_STORAGE_FALLBACK."""
    first, second = (
        open_one_storage(
            setting=each, data_dir=data_dir, endpoint_url=endpoint_url, is_group_readable=is_group_readable
        )
        for each in (setting, fallback)
    )
    return first if first.address == second.address else FallbackStorage(first, second)


def open_one_storage(
    *, setting: str, data_dir: str | Path, endpoint_url: str = "", is_group_readable: bool = False
) -> LocalStorage | S3Storage:
    """The storage of one setting: empty for a folder in `data_dir`, else the path of a folder or `s3://bucket/prefix`.

    It connects to nothing yet.
    """
    if matched := _S3.fullmatch(setting):
        return S3Storage(
            bucket=matched["bucket"],
            prefix=matched["prefix"] or "",
            endpoint_url=endpoint_url,
            data_dir=data_dir,
        )
    folder = Path(setting) if setting else Path(data_dir) / FOLDER
    return LocalStorage(folder, is_group_readable=is_group_readable)
