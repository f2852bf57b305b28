"""Images as a provider takes them: as they are where they fit, else decoded and made smaller in a process of its own.

A decoder is C code over bytes that anybody may have made. In its process it has so much memory and time and no more,
and a crash ends nothing but that process; what was in the file besides the picture (places, cameras, comments) is not
in what it writes.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .image_headers import GIF, JPEG, PNG, WEBP, ImageHeader

DAMAGED, TOO_LARGE, UNKNOWN = "damaged", "too_large", "unknown_format"
CODES = (DAMAGED, TOO_LARGE, UNKNOWN)

MAX_PIXELS = 80_000_000  # that are decoded; a JPEG is decoded smaller than it is
MAX_PROCESSES = 2
CPU_S = 20
WALL_S = 40.0
BLOCK_BYTES = 48 * 1024
# types that are decoded although no provider takes them
READABLE = frozenset((JPEG, PNG, GIF, WEBP, "image/bmp", "image/x-ms-bmp", "image/tiff", "image/avif"))

_PACKAGE = Path(__file__).resolve().parent
# chat_api itself is not imported: that would take longer than most images
_CODE = """
import sys, types
sys.dont_write_bytecode = True
package = types.ModuleType("chat_api")
package.__path__ = [sys.argv.pop(1)]
sys.modules["chat_api"] = package
from chat_api.documents.image_child import main
main()
"""
_processes = threading.BoundedSemaphore(MAX_PROCESSES)


class UnusableImage(Exception):
    """The image can't be sent, for a reason that is one of CODES."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """What a provider takes."""

    media_types: frozenset[str] = frozenset((JPEG, PNG, GIF, WEBP))
    longest_side: int = 2048
    max_bytes: int = 10 * 1024 * 1024


class ChangedImage:
    """An image that was made to fit. Its bytes are in a file without a name."""

    def __init__(self, file: IO[bytes], media_type: str, size: tuple[int, int]) -> None:
        self.media_type, self.size = media_type, size
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        digest = hashlib.sha256()
        self.size_bytes = 0
        for block in self.blocks():
            digest.update(block)
            self.size_bytes += len(block)
        self.sha256 = digest.hexdigest()

    def blocks(self) -> Iterator[bytes]:
        """Its bytes from the beginning."""
        at = 0
        while block := os.pread(self._descriptor, BLOCK_BYTES, at):
            at += len(block)
            yield block


def fits(header: ImageHeader | None, size_bytes: int, media_type: str, limits: ImageLimits) -> bool:
    """Whether an image can be sent as it is. Raises UnusableImage where its end is missing."""
    if header is None:
        return (
            media_type not in READABLE and media_type in limits.media_types and size_bytes <= limits.max_bytes
        )
    if not header.is_whole:
        raise UnusableImage(DAMAGED)
    return (
        header.media_type in limits.media_types
        and not header.is_animated
        and header.is_plain
        and min(header.width, header.height) > 0
        and max(header.width, header.height) <= limits.longest_side
        and size_bytes <= limits.max_bytes
    )


def sent_size(size: tuple[int, int], limits: ImageLimits) -> tuple[int, int]:
    """Width and height that an image of this size is sent with."""
    factor = min(1.0, limits.longest_side / max(*size, 1))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def shrink(file: IO[bytes], limits: ImageLimits, *, wall_s: float = WALL_S) -> ChangedImage:
    """The image of an open file, which must be one of the system's, made to fit. Raises UnusableImage."""
    file.seek(0)
    with tempfile.TemporaryFile() as output, _processes:
        said = _run(file, output, limits, wall_s)
        result = _result_of(said) if said is not None else {"error": DAMAGED}
        if (code := result.get("error")) is not None:
            raise UnusableImage(str(code) if code in CODES else DAMAGED)
        return ChangedImage(output, str(result["media_type"]), (int(result["width"]), int(result["height"])))


def _run(file: IO[bytes], output: IO[bytes], limits: ImageLimits, wall_s: float) -> bytes | None:
    """Let a process write the image; what it says about that, None where it broke down."""
    arguments = (limits.longest_side, limits.max_bytes, ",".join(sorted(limits.media_types)))
    process = subprocess.Popen(  # noqa: S603 - no part of the command comes from outside
        [sys.executable, "-I", "-c", _CODE, str(_PACKAGE.parent), *map(str, arguments)],
        stdin=file.fileno(),
        stdout=output.fileno(),
        stderr=subprocess.PIPE,
        cwd="/",
        env={"LC_ALL": "C.UTF-8", "PATH": os.defpath, "MALLOC_ARENA_MAX": "2"},
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=wall_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise UnusableImage(TOO_LARGE) from None
    return said if process.returncode == 0 else None


def _result_of(said: bytes) -> dict[str, str | int]:
    try:
        result: dict[str, str | int] = json.loads(said)
    except ValueError:
        return {"error": DAMAGED}
    return result
